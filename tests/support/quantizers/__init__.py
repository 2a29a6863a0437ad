"""Random matrices as schemes store them, with the numbers that their publications say these are.

Nothing of Tandem's own is used: the formulas go from codes to words, the readers from words to
codes.
"""

from __future__ import annotations

from tests.support.quantizers.eights import EIGHTS
from tests.support.quantizers.fours import FOURS
from tests.support.quantizers.integers import INTEGERS
from tests.support.quantizers.kinds import Kind, Stored, quantize
from tests.support.quantizers.mlx import MLX

__all__ = ["KINDS", "Kind", "Stored", "quantize"]

#: By a name for people.
KINDS: dict[str, Kind] = INTEGERS | MLX | EIGHTS | FOURS
