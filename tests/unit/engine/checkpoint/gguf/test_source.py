"""A model is the same from its folder and from the GGUF that is made of it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.numpy import load_file
from tests.support.models.divided import Runner
from tests.support.models.gguf_files import quantised, write_gguf
from tests.support.models.gguf_models import TINY_TOKENS, as_gguf
from tests.support.models.shape import Shape
from tests.support.models.shapes import LLAMA3_ROPE, SHAPES

from tandem.engine.checkpoint.formats import open_weights
from tandem.engine.checkpoint.gguf.folder import describe
from tandem.engine.checkpoint.gguf.source import GgufSource
from tandem.engine.checkpoint.sharding import Span
from tandem.engine.families import Size, family_of, read_config, tensor_shapes
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError

NAMES = (
    "llama-gqa",
    "llama-linear-rope",
    "llama-biases",
    "qwen2-three-heads",
    "qwen2-yarn",
    "qwen3-head-dim",
    "mistral-one-kv-head",
    "gemma2",
    "gemma2-uncapped",
    "gemma3-two-bases",
    "phi3-window",
    "phi3-all-heads",
    "phi3-long-context",
    "phi3-short-context",
    "granite",
    "smollm3",
    "glm4",
    "glm4-quarter",
    "olmo2",
    "olmo2-all-heads",
    "olmo3",
    "arcee",
    "cohere",
    "cohere-head-norms",
    "cohere2",
    "ernie-bias",
    "ernie-untied",
    "exaone-full",
    "exaone-windows",
    "gemma",
    "nemotron",
    "nemotron-biases",
    "seed-oss",
    "stablelm",
    "stablelm-all-heads",
    "starcoder2-window",
    "starcoder2-unbiased",
    "mixtral",
    "qwen2-moe",
    "qwen3-moe",
)
#: What of a shape a file cannot say: these models have it otherwise.
OVERRIDES: dict[str, dict[str, Any]] = {
    "gemma2": {"query_pre_attn_scalar": 20},
    "gemma2-uncapped": {"query_pre_attn_scalar": 12, "attention_bias": False},
    "gemma3-two-bases": {"query_pre_attn_scalar": 20, "sliding_window_pattern": 6},
    "olmo2-all-heads": {"attention_bias": False},
    "olmo3": {"rope_scaling": None},
    "cohere-head-norms": {"tie_word_embeddings": True},
    "mixtral": {"sliding_window": None},
    "starcoder2-unbiased": {"hidden_act": "gelu_pytorch_tanh"},
    "qwen3-moe": {"norm_topk_prob": True},
}
LLAMA3 = Shape(
    "llama",
    Size(2, 64, 96, 4, 2, 32, 303, 131072),
    {"rope_theta": 5e5, "rope_scaling": {**LLAMA3_ROPE, "original_max_position_embeddings": 8192}},
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def created(directory: Path, shape: Shape, overrides: dict[str, Any] | None = None) -> Path:
    create_checkpoint(
        directory,
        family=shape.family,
        size=shape.size,
        seed=5,
        dtype="float32",
        overrides={**shape.overrides, **(overrides or {})},
    )
    return directory


def same_config(one: Path, other: Path) -> bool:
    """But for what the tokenizer decides, and for the class whose layers are the same."""
    ours, theirs = (msgspec.structs.asdict(read_config(directory)) for directory in (one, other))
    for fields in (ours, theirs):
        del fields["eos_token_ids"], fields["dtype"], fields["architecture"]
    assert ours == theirs
    return True


@pytest.mark.parametrize("name", [*NAMES, "llama3"])
def test_config_and_weights_are_those_of_the_folder(tmp_path: Path, name: str) -> None:
    shape = LLAMA3 if name == "llama3" else SHAPES[name]
    original = created(tmp_path / "m", shape, OVERRIDES.get(name))
    folder = describe(as_gguf(original, tmp_path / "m.gguf"))
    assert same_config(folder, original)
    config = read_config(folder)
    expected = load_file(original / "model.safetensors")
    ignored = family_of(config).ignored_tensors
    with open_weights(folder, "numpy", tensor_shapes(config), ignored) as weights:
        assert set(weights.files) == set(expected)
        for tensor, numbers in expected.items():
            found = weights.read(tensor)
            assert found.shape == numbers.shape
            # Norms that had one added are off by that rounding.
            assert np.allclose(found, numbers, rtol=0, atol=1e-7), tensor
            assert weights.quantized(tensor) is None


@pytest.mark.parametrize("name", ["llama-gqa", "granite", "llama-biases"])
def test_rows_that_a_rank_reads_are_those_of_its_heads(tmp_path: Path, name: str) -> None:
    original = created(tmp_path / "m", SHAPES[name])
    source = GgufSource(as_gguf(original, tmp_path / "m.gguf"), "numpy")
    for tensor, numbers in load_file(original / "model.safetensors").items():
        rows = Span(len(numbers) // 3, len(numbers) - 1)
        assert np.array_equal(source.read(tensor, rows), numbers[rows.start : rows.stop])
        if numbers.ndim == 2:
            found = source.read(tensor, rows, Span(2, 9))
            assert np.array_equal(found, numbers[rows.start : rows.stop, 2:9])
    source.close()


def test_wide_numbers_are_copied_once(tmp_path: Path) -> None:
    """As wide as the file has them: the largest matrix of a model would else need memory twice."""
    size = Size(1, 64, 64, 4, 2, 16, 8192, 256)
    create_checkpoint(tmp_path / "m", family="qwen2", size=size, dtype="float32")
    file = as_gguf(tmp_path / "m", tmp_path / "m.gguf", "BF16")
    source = GgufSource(file, "pt")
    name, least = "model.embed_tokens.weight", 8192 * 64 * 2
    tracemalloc.start()
    try:
        found = source.read(name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert least <= peak < 1.2 * least
    expected = torch.from_numpy(load_file(tmp_path / "m" / "model.safetensors")[name])
    assert torch.equal(found, expected.to(torch.bfloat16))


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16"])
def test_numbers_of_every_kind_are_the_librarys(tmp_path: Path, kind: str) -> None:
    shape = SHAPES["llama-gqa"]._replace(size=Size(2, 64, 96, 4, 2, 16, 301, 256))
    original = created(tmp_path / "m", shape)
    source = GgufSource(as_gguf(original, tmp_path / "m.gguf", kind), "numpy")
    for tensor, numbers in load_file(original / "model.safetensors").items():
        if numbers.ndim == 1:
            continue
        data, of_kind = quantised(numbers, kind)
        expected = dequantize(data, of_kind)
        assert np.array_equal(source.read(tensor), expected)
        assert np.array_equal(source.read(tensor, Span(4, 20), Span(16, 50)), expected[4:20, 16:50])
        whole = source.quantized(tensor)
        assert source.stored(tensor).nbytes == (0 if whole is None else whole.nbytes)
        stored = source.quantized(tensor, Span(4, 20), Span(32, 64))
        assert (stored is None) == (kind in ("F16", "BF16"))
        if stored is not None:
            assert np.array_equal(stored.dequantize(), expected[4:20, 32:64])
    source.close()


@pytest.mark.parametrize("name", ["gpt-oss", "gpt-oss-defaults"])
def test_gates_and_ups_that_are_apart_are_read_as_one(tmp_path: Path, name: str) -> None:
    """A folder of gpt-oss has experts' tensors in one, inputs first: logits tell them alike."""
    overrides = {"swiglu_limit": 7.0, "swiglu_alpha": 1.702, "layer_types": None}
    original = created(tmp_path / "m", SHAPES[name], overrides)
    folder = describe(as_gguf(original, tmp_path / "m.gguf"))
    part = ([5, 9, 33, 7, 100], 0, [0, 1])
    expected = Runner(original).step(part).numpy()
    for way in ("alone", f"tp{read_config(original).num_kv_heads}"):
        assert np.allclose(Runner(folder, way).step(part).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gpt-oss", "qwen3-moe"])
def test_experts_of_four_bits_are_read_by_row_and_column(tmp_path: Path, name: str) -> None:
    """What of a stack is read is that of its numbers, for whole experts and parts of one."""
    size = Size(1, 64, 64, 4, 2, 16, 301, 256, 4, 2, 96)
    original = created(tmp_path / "m", SHAPES[name]._replace(size=size))
    four = GgufSource(as_gguf(original, tmp_path / "four.gguf", "MXFP4"), "numpy")
    for tensor in (tensor for tensor in four.files if "experts" in tensor):
        shape = four.stored(tensor).shape
        if len(shape) == 2 and "bias" in tensor:
            continue
        entry = 2 if len(shape) == 3 else None
        whole = four.read(tensor, entry=entry)
        assert whole.shape == shape[-2:]
        rows, columns = Span(3, 40), Span(32, 64)
        stored = four.quantized(tensor, rows, columns, entry)
        assert stored is not None
        assert np.array_equal(stored.dequantize(), whole[3:40, 32:64])
    four.close()


@pytest.mark.parametrize("way", ["tp2", "pp2"])
def test_ranks_that_read_slices_compute_what_one_does(tmp_path: Path, way: str) -> None:
    """Columns are cut within a block: 96 by two are one and a half of 32."""
    shape = SHAPES["llama-gqa"]._replace(size=Size(2, 64, 96, 4, 2, 16, 301, 256))
    original = created(tmp_path / "m", shape)
    folder = describe(as_gguf(original, tmp_path / "m.gguf", "Q4_0"))
    part = ([5, 9, 33, 7, 100], 0, [0, 1])
    alone, divided = Runner(folder).step(part), Runner(folder, way).step(part)
    assert np.allclose(alone.numpy(), divided.numpy(), atol=1e-5)


FIELDS = {
    "llama.block_count": 1,
    "llama.context_length": 64,
    "llama.embedding_length": 32,
    "llama.feed_forward_length": 32,
    "llama.attention.head_count": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    **TINY_TOKENS,
}


def written(tmp_path: Path, fields: dict[str, Any], **tensors: Any) -> Path:  # noqa: ANN401
    embedding = {"token_embd.weight": np.zeros((6, 32), np.float32)}
    named = {name.replace("__", "."): numbers for name, numbers in tensors.items()}
    return write_gguf(tmp_path / "m.gguf", "llama", FIELDS | fields, embedding | named)


def test_a_type_without_a_layout_of_ours_is_named_with_a_way_out(tmp_path: Path) -> None:
    codes = np.zeros((4, 66), np.uint8), GGMLQuantizationType.IQ2_XXS
    file = written(tmp_path, {}, blk__0__attn_v__weight=codes)
    with pytest.raises(
        CheckpointError,
        match=r"m\.gguf: tensor blk\.0\.attn_v\.weight is of type"
        r" IQ2_XXS.*another quantisation of this model, as Q4_K_M",
    ):
        GgufSource(file, "numpy")


def test_rows_that_are_no_heads_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, {}, blk__0__attn_q__weight=np.zeros((24, 32), np.float32))
    with pytest.raises(
        CheckpointError, match=r"attn_q\.weight has 24 rows, which are no heads of 16"
    ):
        GgufSource(file, "numpy")


def test_a_tensor_of_another_architecture_is_named(tmp_path: Path) -> None:
    file = written(tmp_path, {}, blk__0__ssm_in__weight=np.zeros((2, 2), np.float32))
    with pytest.raises(
        CheckpointError, match=r"tensor blk\.0\.ssm_in\.weight is unexpected in a m"
    ):
        GgufSource(file, "numpy")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"llama.block_count": "three"}, r"llama\.block_count is 'three'; expected an integer"),
        ({"llama.attention.value_length": 5}, r"value_length is not its key_length"),
        ({"llama.rope.scaling.type": "odd", "llama.rope.scaling.factor": 2.0}, "type 'odd' is not"),
        (
            {
                "llama.rope.scaling.type": "yarn",
                "llama.rope.scaling.factor": -1.0,
                "llama.rope.scaling.attn_factor": 1.0,
            },
            r"llama\.rope\.scaling\.factor is -1\.0; expected more than 0",
        ),
        ({"llama.rope.freq_base": float("nan")}, "freq_base is nan; expected a finite number"),
        ({"llama.rope.freq_base": float("inf")}, "freq_base is inf; expected a finite number"),
        ({"llama.attention.head_count_kv": [1, 2]}, r"head_count_kv differs between layers"),
        ({"tokenizer.ggml.eos_token_id": 77}, r"eos_token_id is 77; there are 6 tokens"),
    ],
)
def test_fields_that_no_family_has_so_are_named(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words):
        describe(written(tmp_path, fields))


def test_an_unknown_architecture_is_said_with_those_that_are_known(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m.gguf", "rwkv7", {}, {})
    with pytest.raises(
        CheckpointError, match=r"'rwkv7' is not supported; expected one of arcee, coh"
    ):
        describe(file)


def test_rope_factors_of_no_known_rule_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, {}, rope_freqs__weight=np.array([1, 3, 2, 4, 9, 9, 9, 9], np.float32))
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight follows no rule"):
        describe(file)


def test_counts_of_each_layer_are_one_count(tmp_path: Path) -> None:
    folder = describe(written(tmp_path, {"llama.attention.head_count_kv": [1, 1, 1]}))
    assert json.loads((folder / "config.json").read_text())["num_key_value_heads"] == 1
