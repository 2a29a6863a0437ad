"""What the known families state: their tensors, how ranks share them, and their configs."""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem.engine import families
from tandem.engine.checkpoint.config import ModelConfig
from tandem.engine.checkpoint.layout import Place, specs_of
from tandem.engine.checkpoint.sharding import tensor_parallel
from tandem.engine.families import FAMILIES, Size
from tandem.engine.families.llama import LlamaConfig
from tandem.engine.families.rope import Linear, LongRope, Rope
from tandem.errors import CheckpointError

LLAMA3 = {"type": "llama3", "factor": 8, "low_freq_factor": 1, "high_freq_factor": 4}
ALPHA = {"type": "dynamic", "alpha": 1000.0, "factor": 1.0}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0] * 8,
    "long_factor": [2.0] * 8,
    "original_max_position_embeddings": 64,
}
SIZE = Size(2, 48, 80, 8, 4, 16, 389, 256)


def written(directory: Path, architecture: str, **changes: Any) -> Path:  # noqa: ANN401 - any JSON
    """A folder with the `config.json` of a small model."""
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
        **FAMILIES[architecture].example_config(SIZE),
    }
    config_file = FAMILIES[architecture].config_file(fields | changes)
    (directory / "config.json").write_text(json.dumps(config_file))
    return directory


def read(directory: Path, architecture: str, **changes: Any) -> LlamaConfig:  # noqa: ANN401
    config = families.read_config(written(directory, architecture, **changes))
    assert isinstance(config, LlamaConfig)
    return config


@pytest.mark.parametrize("architecture", FAMILIES)
@pytest.mark.parametrize("size", [1, 2, 4])
def test_ranks_share_every_tensor_without_gap_or_overlap(
    tmp_path: Path, architecture: str, size: int
) -> None:
    """Of a stack of experts each has its rank; rows of two tensors may alternate in one."""
    config: ModelConfig = read(tmp_path, architecture)
    parts: defaultdict[tuple[str, int | None, int], list[range | None]] = defaultdict(list)
    extents: dict[tuple[str, int | None, int], int] = {}
    for rank in range(size):
        shard = tensor_parallel(config, rank, size)
        for spec in specs_of(families.family_of(config).tensors(config)):
            place = spec.place or Place(spec.shape)
            held = range(shard.experts.start, shard.experts.stop)
            if place.entry is not None and place.entry not in held:
                continue
            shape = place.shape[place.entry is not None :]
            for axis, span in enumerate(shard.part(spec)[: len(shape)]):
                every = place.every if axis == 0 else 1
                numbers = None if span is None else range(span.start, span.stop, every)
                parts[spec.name, place.entry, axis].append(numbers)
                extents[spec.name, place.entry, axis] = shape[:: -1 if place.transposed else 1][
                    axis
                ]
    for key, held_by_ranks in parts.items():
        if set(held_by_ranks) != {None}:
            every_number = [number for one in held_by_ranks for number in one or ()]
            assert None not in held_by_ranks
            assert sorted(every_number) == list(range(extents[key])), key


def test_every_architecture_has_its_row_in_the_documentation() -> None:
    document = Path(__file__).parents[4] / "docs" / "models.md"
    rows = re.findall(r"^\| `(\w+For\w+)` \|", document.read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(FAMILIES)


def test_switches_are_the_families_or_the_configs(tmp_path: Path) -> None:
    stated = {"attention_bias": True, "mlp_bias": True}
    llama = read(tmp_path, "LlamaForCausalLM", **stated)
    assert (llama.qkv_bias, llama.output_bias, llama.mlp_bias) == (True, True, True)
    qwen = read(tmp_path, "Qwen2ForCausalLM", attention_bias=False, mlp_bias=True)
    assert (qwen.qkv_bias, qwen.output_bias, qwen.mlp_bias) == (True, False, False)
    assert read(tmp_path, "Qwen3ForCausalLM").qk_norm
    assert not read(tmp_path, "MistralForCausalLM", **stated).qkv_bias


def test_windows_are_stated_in_several_ways(tmp_path: Path) -> None:
    assert read(tmp_path, "MistralForCausalLM", sliding_window=7).sliding_windows == (7, 7)
    assert read(tmp_path, "MistralForCausalLM", sliding_window=None).sliding_windows == (None,) * 2
    qwen = {"sliding_window": 9, "use_sliding_window": True, "max_window_layers": 1}
    assert read(tmp_path, "Qwen2ForCausalLM", **qwen).sliding_windows == (None, 9)
    unused = qwen | {"use_sliding_window": False}
    assert read(tmp_path, "Qwen2ForCausalLM", **unused).sliding_windows == (None, None)
    kinds = {"layer_types": ["sliding_attention", "full_attention"]}
    assert read(tmp_path, "Qwen2ForCausalLM", **qwen, **kinds).sliding_windows == (9, None)


def test_how_layers_rotate_is_stated_in_several_ways(tmp_path: Path) -> None:
    plain = Rope(theta=5e5, dim=8)
    for spelling in (
        {"rope_theta": 5e5, "partial_rotary_factor": 0.5},
        {"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 0.5}},
        {"rope_parameters": {"rope_theta": 5e5}, "partial_rotary_factor": 0.5, "rope_theta": 1.0},
        {"rope_theta": 5e5, "partial_rotary_factor": 0.5, "rope_scaling": {"rope_type": "default"}},
    ):
        assert read(tmp_path, "LlamaForCausalLM", **spelling).ropes == (plain, plain)
    by_kind = {
        "sliding_window": 9,
        "use_sliding_window": True,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_theta": 7e3,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default"},
        },
    }
    found = read(tmp_path, "Qwen2ForCausalLM", **by_kind).ropes
    assert found == (Rope(7e3, 16), Rope(1e6, 16, Linear(8.0)))
    by_kind["rope_parameters"] = {"full_attention": None, "sliding_attention": {"rope_theta": 1e4}}
    assert read(tmp_path, "Qwen2ForCausalLM", **by_kind).ropes == (Rope(1e4, 16), None)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "mish"}, "hidden_act 'mish'"),
        ({"torch_dtype": "float8"}, "dtype 'float8'"),
        ({"rope_scaling": {"rope_type": "mrope"}}, "rope_type 'mrope' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "factor is None; rope_type 'yarn' needs one"),
        ({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": -1}}, "beta_fast is -1"),
        ({"rope_scaling": {"type": "dynamic"}}, "factor is None; rope_type 'dynamic' needs one"),
        ({"rope_scaling": LONGROPE | {"short_factor": [1.0]}}, "short_factor has 1 numbers"),
        ({"rope_scaling": LONGROPE | {"long_factor": [0.0] * 8}}, "long_factor is 0.0"),
        ({"rope_scaling": LONGROPE | {"long_factor": ["1"] * 8}}, "long_factor"),
        (
            {"rope_scaling": LONGROPE | {"original_max_position_embeddings": 1}},
            "original_max_position_embeddings is 1; expected 2",
        ),
        (
            {"rope_scaling": LLAMA3 | {"low_freq_factor": 4}},
            "low_freq_factor is 4.0; expected less than high_freq_factor",
        ),
        (
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1.0}},
            "rope_theta is 1.0; rope_type 'yarn' needs more than 1",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2.0, "mscale": 1, "mscale_all_dim": -10}},
            "mscale_all_dim is -10.0",
        ),
        ({"partial_rotary_factor": 0.01}, "partial_rotary_factor is 0.01"),
        ({"partial_rotary_factor": 1.5}, "partial_rotary_factor is 1.5"),
        ({"rope_parameters": {"rope_theta": -1e4}}, "rope_theta is -10000.0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"num_hidden_layers": 200_000}, "num_hidden_layers is 200000; expected 1 to 1024"),
        ({"hidden_size": 10**30}, "hidden_size is out of all bounds"),
        ({"max_position_embeddings": 2**40}, "max_position_embeddings is 1099511627776"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps is -1.0"),
        ({"rope_theta": -5}, "rope_theta is -5.0"),
        ({"rope_scaling": {"type": "linear"}}, "factor is None; rope_type 'linear' needs one"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor is 0"),
        ({"layer_types": ["chunked_attention"] * 2}, "layer_types has 2 entries"),
        ({"layer_types": ["full_attention"] * 3}, "layer_types has 3 entries"),
        ({"num_key_value_heads": 3}, "8 attention heads do not divide among 3"),
        ({"head_dim": 15}, "head_dim is 15"),
        ({"vocab_size": -1}, "vocab_size is -1"),
    ],
)
def test_what_layers_cannot_compute_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        read(tmp_path, "LlamaForCausalLM", **changes)
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("architecture", "changes", "words"),
    [
        ("SmolLM3ForCausalLM", {"no_rope_layers": [1]}, "no_rope_layers has 1 entries; expected 2"),
        ("SmolLM3ForCausalLM", {"no_rope_layer_interval": 0}, "no_rope_layer_interval is 0"),
        ("CohereForCausalLM", {"layer_norm_eps": 0}, "layer_norm_eps is 0"),
        ("CohereForCausalLM", {"logit_scale": 0}, "logit_scale is 0"),
        ("CohereForCausalLM", {"rope_theta": -1.0}, "rope_theta is -1.0"),
        ("GraniteForCausalLM", {"residual_multiplier": 0}, "residual_multiplier is 0.0"),
        ("GraniteForCausalLM", {"logits_scaling": 0}, "logits_scaling is 0.0"),
        ("HunYuanDenseV1ForCausalLM", {"rope_scaling": ALPHA | {"alpha": -1}}, "alpha is -1"),
        (
            "HunYuanDenseV1ForCausalLM",
            {"rope_scaling": ALPHA | {"alpha": 1e10}},
            "alpha is 10000000000.0",
        ),
        (
            "HunYuanDenseV1ForCausalLM",
            {"rope_scaling": ALPHA, "head_dim": 2},
            "head_dim is 2; expected at least 4",
        ),
        (
            "HunYuanDenseV1ForCausalLM",
            {"rope_scaling": {"type": "yarn", "factor": 2.0}},
            "rope_scaling has an attention factor",
        ),
        ("GraniteMoeHybridForCausalLM", {"num_local_experts": 4}, "num_local_experts is 4"),
        ("GraniteMoeHybridForCausalLM", {"layer_types": None}, "layer_types are ['mamba']"),
        (
            "GraniteMoeHybridForCausalLM",
            {"layer_types": ["mamba", "attention"]},
            "layer_types are ['attention', 'mamba']; expected 'attention' alone",
        ),
    ],
)
def test_what_a_family_does_not_have_is_refused_by_name(
    tmp_path: Path, architecture: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        read(tmp_path, architecture, **changes)
    assert words in caught.value.message


def test_every_fourth_layer_of_smollm3_does_not_rotate(tmp_path: Path) -> None:
    config = read(tmp_path, "SmolLM3ForCausalLM", num_hidden_layers=9)
    assert [rope is not None for rope in config.ropes] == [True, True, True, False] * 2 + [True]
    stated = {"no_rope_layers": [1, 0, 1], "sliding_window": 7, "use_sliding_window": True}
    config = read(tmp_path, "SmolLM3ForCausalLM", **stated)
    assert [rope is not None for rope in config.ropes] == [True, False]
    assert config.sliding_windows == (None, 7)


def test_yarn_makes_the_context_as_long_as_it_says(tmp_path: Path) -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0}
    stated = yarn | {"original_max_position_embeddings": 32768}
    config = read(tmp_path, "Qwen3ForCausalLM", max_position_embeddings=40960, rope_scaling=stated)
    assert config.context_length == 131_072
    longer = {"max_position_embeddings": 200_000, "rope_parameters": stated}
    assert read(tmp_path, "Qwen3ForCausalLM", **longer).context_length == 200_000
    unstated = {"max_position_embeddings": 40960, "rope_scaling": yarn}
    assert read(tmp_path, "Qwen3ForCausalLM", **unstated).context_length == 40960
    linear = {"max_position_embeddings": 4096, "rope_scaling": stated | {"rope_type": "linear"}}
    assert read(tmp_path, "LlamaForCausalLM", **linear).context_length == 4096


def test_phi3_has_old_names_of_longrope(tmp_path: Path) -> None:
    for name in ("su", "yarn", "longrope"):
        config = read(tmp_path, "Phi3ForCausalLM", rope_scaling=LONGROPE | {"type": name})
        (rope,) = set(config.ropes)
        assert rope is not None
        # Its own default goes before what the rule says, as in `transformers`.
        factor = math.sqrt(1 + math.log(1.0) / math.log(4096))
        assert rope.scaling == LongRope((1.0,) * 8, (2.0,) * 8, 4096, factor)


def test_what_leaves_no_room_for_a_number_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "LlamaForCausalLM") / "config.json"
    sound = path.read_text()
    for number in ("NaN", "Infinity", "1e999", "9" * 5000):
        path.write_text(sound.replace('"hidden_size": 48', f'"hidden_size": {number}'))
        with pytest.raises(CheckpointError, match=r"config\.json"):
            families.read_config(tmp_path)


def test_the_model_type_decides_where_no_architecture_is_named(tmp_path: Path) -> None:
    absent: list[str] | None
    for absent in (None, []):
        config = read(tmp_path, "Qwen3ForCausalLM", architectures=absent, model_type="qwen3")
        assert config.architecture == "Qwen3ForCausalLM"
    with pytest.raises(CheckpointError, match="architecture of model_type 'mamba'"):
        read(tmp_path, "LlamaForCausalLM", architectures=None, model_type="mamba")
    with pytest.raises(CheckpointError, match="LlamaForSequenceClassification"):
        read(
            tmp_path,
            "LlamaForCausalLM",
            architectures=["LlamaForSequenceClassification"],
            model_type="llama",
        )


@settings(deadline=None)
@given(ids=st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9)), more=st.integers(0, 9))
def test_both_files_name_the_tokens_that_end_a_text(
    tmp_path_factory: pytest.TempPathFactory, ids: int | list[int] | None, more: int
) -> None:
    directory = tmp_path_factory.mktemp("config")
    config = read(directory, "LlamaForCausalLM", eos_token_id=ids)
    stated = frozenset(ids if isinstance(ids, list) else () if ids is None else (ids,))
    assert config.eos_token_ids == stated
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": more}))
    assert families.read_config(directory).eos_token_ids == stated | {more}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_activation": "relu6"}, "hidden_activation 'relu6'"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ({"query_pre_attn_scalar": 0}, "query_pre_attn_scalar is 0"),
        ({"attn_logit_softcapping": -1.0}, "attn_logit_softcapping is -1.0"),
        ({"final_logit_softcapping": 0}, "final_logit_softcapping is 0"),
    ],
)
def test_what_gemmas_layers_cannot_compute_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json") as caught:
        read(tmp_path, "Gemma2ForCausalLM", **changes)
    assert words in caught.value.message


def test_gemmas_windows_alternate_unless_the_config_says_otherwise(tmp_path: Path) -> None:
    layers = {"num_hidden_layers": 7, "sliding_window": 5}
    assert read(tmp_path, "Gemma2ForCausalLM", **layers).sliding_windows == (5, None) * 3 + (5,)
    five_of_six = (5,) * 5 + (None, 5)
    assert read(tmp_path, "Gemma3ForCausalLM", **layers).sliding_windows == five_of_six
    pattern = layers | {"sliding_window_pattern": 2}
    assert read(tmp_path, "Gemma3ForCausalLM", **pattern).sliding_windows == (5, None) * 3 + (5,)
    kinds = {"layer_types": ["full_attention"] * 6 + ["sliding_attention"]}
    stated = read(tmp_path, "Gemma3ForCausalLM", **layers, **kinds)
    assert stated.sliding_windows == (None,) * 6 + (5,)


def test_pairs_must_be_whole(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: partial_rotary_factor makes 3 "):
        read(tmp_path, "GlmForCausalLM", head_dim=6, partial_rotary_factor=0.5)


def test_glms_texts_end_with_the_tokens_that_its_models_have(tmp_path: Path) -> None:
    ends = read(tmp_path, "Glm4ForCausalLM").eos_token_ids
    assert ends == {151_329, 151_336, 151_338}


def test_exaones_pattern_may_be_spelt(tmp_path: Path) -> None:
    layers = {"num_hidden_layers": 6, "sliding_window": 5}
    assert read(tmp_path, "Exaone4ForCausalLM", **layers).sliding_windows == (5, 5, 5, None, 5, 5)
    spelt = read(tmp_path, "Exaone4ForCausalLM", **layers, sliding_window_pattern="LG")
    assert spelt.sliding_windows == (5, None) * 3
    assert [rope is None for rope in spelt.ropes] == [False, True] * 3


@pytest.mark.parametrize("field", ["qk_layernorm", "use_parallel_residual"])
def test_what_the_largest_stablelm_has_alone_is_refused_by_name(tmp_path: Path, field: str) -> None:
    with pytest.raises(CheckpointError, match=rf"config\.json: {field} is not supported"):
        read(tmp_path, "StableLmForCausalLM", **{field: True})
