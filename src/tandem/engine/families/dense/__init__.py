"""Dense families that differ from Llama by more than a row of switches, a module each."""

from __future__ import annotations

from typing import Any

from tandem.engine.families.dense import (
    biased,
    cohere,
    ernie,
    exaone,
    gemma,
    glm,
    granite,
    hunyuan,
    mistral,
    olmo,
    phi3,
    plain,
    qwen_vl,
    smollm3,
    stablelm,
)
from tandem.engine.families.family import Family

FAMILIES: dict[str, Family[Any, Any]] = {
    **biased.FAMILIES,
    **cohere.FAMILIES,
    **ernie.FAMILIES,
    **exaone.FAMILIES,
    **gemma.FAMILIES,
    **glm.FAMILIES,
    **granite.FAMILIES,
    **hunyuan.FAMILIES,
    **mistral.FAMILIES,
    **olmo.FAMILIES,
    **phi3.FAMILIES,
    **plain.FAMILIES,
    **qwen_vl.FAMILIES,
    **smollm3.FAMILIES,
    **stablelm.FAMILIES,
}
