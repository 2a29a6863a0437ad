"""Who takes part in the race of engines, and how they are compared."""

from __future__ import annotations

from benchmarks.engines import race
from tandem.bench import EngineFigure


def test_others_are_compared_with_tandem_in_as_many_bits() -> None:
    ours = EngineFigure("tandem", "bf16", {"prefill": 30.0, "decode 1": 4.0}, 1.0)
    other = EngineFigure("other", "bf16", {"prefill": 10.0, "decode 1": 8.0}, 1.0)
    narrow = EngineFigure("tandem", "int8", {"prefill": 40.0, "decode 1": 8.0}, 1.0)
    assert race.lead([ours, other, narrow, other]) == {
        "tandem bf16 / other bf16": {"prefill": 3.0, "decode 1": 0.5},
        "tandem int8 / other bf16": {"prefill": 4.0, "decode 1": 1.0},
    }


def test_tandem_in_bfloat16_is_the_first_of_each_part() -> None:
    for contenders in (race.SHAPES, race.STREAMS):
        assert contenders[0].title == "tandem bf16"
        assert {one.name for one in contenders} > {"tandem"}
