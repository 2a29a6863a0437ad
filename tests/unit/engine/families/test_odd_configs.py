"""A config that says what nobody would: it is read, or refused by its file."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.layers.frequencies import inverse_frequencies
from tandem.engine.families import FAMILIES, Size, family_of, read_config
from tandem.engine.families.llama import LlamaConfig, LlamaFamily
from tandem.engine.families.rope import RawRope
from tandem.errors import CheckpointError

SIZE = Size(2, 48, 80, 8, 4, 16, 389, 256)
ARCHITECTURES = sorted(name for name, row in FAMILIES.items() if isinstance(row, LlamaFamily))
NUMBERS = st.sampled_from(
    [0, 1, 2, 3, 7, -1, 0.0, 1.0, -0.5, 0.5, 1e-300, 1e300, -1e300, 2**31, 2**40, 2**70]
)
ODD = st.one_of(
    NUMBERS,
    st.none(),
    st.booleans(),
    st.sampled_from(["", "x", "gelu", "sliding_attention", "rope"]),
    st.lists(NUMBERS, max_size=3),
    st.sampled_from([["full_attention"] * 2, ["sliding_attention"] * 2, ["attention", "x"], {}]),
)
RULES = st.sampled_from(["default", "linear", "llama3", "yarn", "longrope", "dynamic", "mrope"])
ROPE_FIELDS = [
    name
    for name in RawRope.__struct_fields__
    if name not in ("type", "rope_type", "factor", "truncate")
]
#: Rules have many numbers, most of which must be sound for one to be looked at.
SOUND = st.sampled_from([1.0, 1.0, 2, 4.0, 0.5, 1e4, 1e300])
ROPES = st.builds(
    lambda rule, numbers, lists: {**numbers, **rule, **lists},
    st.fixed_dictionaries({"rope_type": RULES, "factor": SOUND, "rope_theta": SOUND}),
    st.dictionaries(st.sampled_from(ROPE_FIELDS), SOUND | NUMBERS, max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(
                ("short_factor", "long_factor"), st.lists(SOUND, min_size=8, max_size=8)
            ),
            "truncate": st.booleans(),
            "full_attention": st.none() | st.fixed_dictionaries({"rope_type": RULES}),
            "sliding_attention": st.none() | st.fixed_dictionaries({"rope_theta": NUMBERS}),
        },
    ),
)


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    architecture = draw(st.sampled_from(ARCHITECTURES))
    family = FAMILIES[architecture]
    assert isinstance(family, LlamaFamily)
    fields = {
        "architectures": [architecture],
        "vocab_size": SIZE.vocabulary,
        "hidden_size": SIZE.hidden,
        "intermediate_size": SIZE.intermediate,
        "num_hidden_layers": SIZE.layers,
        "num_attention_heads": SIZE.heads,
        "num_key_value_heads": SIZE.kv_heads,
        "head_dim": SIZE.head_dim,
        "max_position_embeddings": SIZE.context,
        "torch_dtype": "float32",
        **family.example_config(SIZE),
    }
    names = st.sampled_from(family.raw.__struct_fields__)
    odd = st.dictionaries(names, ODD, min_size=1, max_size=2)
    spellings = st.sampled_from(["rope_scaling", "rope_parameters"])
    changes = draw(odd | st.dictionaries(spellings, ROPES, min_size=1, max_size=1))
    return family.config_file(fields | changes)


@settings(max_examples=300, derandomize=True)
@given(configs())
def test_it_is_read_or_refused_by_its_file(config: dict[str, Any]) -> None:
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "config.json").write_text(json.dumps(config))
        with contextlib.suppress(CheckpointError):
            found = read_config(folder)
            assert isinstance(found, LlamaConfig)
            family_of(found).tensors(found)
            for rope in set(found.ropes) - {None}:
                assert rope is not None
                assert len(inverse_frequencies(rope, found.context_length)) == (rope.dim + 1) // 2
