"""Which of several files is the model, by their names."""

from __future__ import annotations

import pytest

from tandem.engine.checkpoint.gguf.choice import choose, model_stem, part_names
from tandem.errors import ConfigurationError

NAMES = [
    "Fox-5M-Q4_K_M.gguf",
    "Fox-5M-Q4_K_S.gguf",
    "fox-5m.q8_0.gguf",
    "Fox-5M-UD-Q2_K_XL.gguf",
    "BF16/Fox-5M-BF16-00001-of-00002.gguf",
    "BF16/Fox-5M-BF16-00002-of-00002.gguf",
    "mmproj-Fox-5M-f16.gguf",
    "Fox-5M.imatrix.gguf",
    "README.md",
]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("Q4_K_M", "Fox-5M-Q4_K_M.gguf"),
        ("q4_k_s", "Fox-5M-Q4_K_S.gguf"),
        ("Q8_0", "fox-5m.q8_0.gguf"),
        ("UD-Q2_K_XL", "Fox-5M-UD-Q2_K_XL.gguf"),
        ("Q2_K_XL", "Fox-5M-UD-Q2_K_XL.gguf"),
        ("BF16", "BF16/Fox-5M-BF16-00001-of-00002.gguf"),
        ("Fox-5M-BF16-00001-of-00002.gguf", "BF16/Fox-5M-BF16-00001-of-00002.gguf"),
        ("Fox-5M-Q4_K_M.gguf", "Fox-5M-Q4_K_M.gguf"),
        ("Fox-5M-Q4_K_M", "Fox-5M-Q4_K_M.gguf"),
    ],
)
def test_one_is_chosen_by_its_file_or_its_quantisation(wanted: str, expected: str) -> None:
    assert choose(NAMES, wanted, "acme/Fox") == expected


def test_without_a_choice_all_are_listed() -> None:
    with pytest.raises(ConfigurationError) as caught:
        choose(NAMES, None, "acme/Fox")
    for word in ("5 in GGUF", "Fox-5M-Q4_K_M", "Fox-5M-BF16", "acme/Fox:Q4_K_M"):
        assert word in caught.value.message
    assert "mmproj" not in caught.value.message
    assert "imatrix" not in caught.value.message


@pytest.mark.parametrize("wanted", ["Q6_K", "4_K_M", ""])
def test_what_is_not_there_is_said(wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=f"none is '{wanted}'"):
        choose(NAMES, wanted, "acme/Fox")


def test_one_alone_is_the_one() -> None:
    assert choose(["a/m.gguf", "mmproj.gguf", "x.txt"], None, "here") == "a/m.gguf"
    assert choose(["config.json"], None, "here") is None
    with pytest.raises(ConfigurationError, match="here has no GGUF; none is 'Q8_0'"):
        choose(["config.json"], "Q8_0", "here")


def test_parts_are_those_that_the_name_counts() -> None:
    assert part_names("m-00002-of-00003.gguf") == [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert part_names("m.gguf") == ["m.gguf"]
    for name in ("m-00001-of-00000.gguf", "m-00001-of-99999.gguf"):
        assert part_names(name) == [name]
    assert model_stem("m.Q4-00002-of-00003.gguf") == "m.Q4"
    assert model_stem("m.Q4_1.gguf") == "m.Q4_1"
