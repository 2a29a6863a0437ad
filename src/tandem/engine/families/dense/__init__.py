"""Dense families that differ from Llama by more than a row of switches, a module each."""

from __future__ import annotations

from typing import Any

from tandem.engine.families.dense import (
    cohere,
    ernie,
    exaone,
    gemma,
    glm,
    olmo,
    seed_oss,
)
from tandem.engine.families.family import Family

FAMILIES: dict[str, Family[Any, Any]] = {
    **cohere.FAMILIES,
    **ernie.FAMILIES,
    **exaone.FAMILIES,
    **gemma.FAMILIES,
    **glm.FAMILIES,
    **olmo.FAMILIES,
    **seed_oss.FAMILIES,
}
