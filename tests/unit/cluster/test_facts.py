"""What a node says of its model: its real size, and another digest for other weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.support.members import hello
from tests.support.quantizers import KINDS, quantize

from tandem.cluster.facts import model_facts
from tandem.cluster.members import check_compatible
from tandem.cluster.strategies.costs import model_bytes
from tandem.engine import CacheFormat, EngineOptions, ModelSetup, Quantization, prepare
from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import PeerRefused


def _setup(directory: Path, *, seed: int = 0, **options: str) -> ModelSetup:
    create_checkpoint(directory, family="qwen3", dtype="float32", seed=seed)
    return prepare(
        msgspec.structs.replace(
            EngineOptions(directory=directory, device="cpu", threads=1), **options
        )
    )


def test_the_weights_add_up_to_the_files(tmp_path: Path) -> None:
    setup = _setup(tmp_path / "m")
    facts = model_facts(setup, "m")
    stored = sum(path.stat().st_size for path in (tmp_path / "m").glob("*.safetensors"))
    assert len(facts.layer_bytes) == facts.layers == setup.config.num_layers
    assert facts.read_bytes == facts.layer_bytes
    # The file also has a header and the last norm.
    assert model_bytes(facts) == pytest.approx(stored, rel=0.05)
    assert facts.kv_heads == setup.config.num_kv_heads
    assert facts.dtype == "float32/whole"


def test_a_token_reads_the_experts_that_it_chooses(tmp_path: Path) -> None:
    shape = Size(3, 64, 176, 4, 2, 16, 384, 64, experts=5, experts_per_token=2, expert_columns=24)
    create_checkpoint(
        tmp_path / "m",
        family="qwen3_moe",
        size=shape,
        dtype="float32",
        overrides={"mlp_only_layers": [1]},
    )
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu", threads=1))
    facts = model_facts(setup, "m")
    idle = 3 * (3 * 24 * 64) * 4
    assert [held - idle for held in facts.layer_bytes[::2]] == facts.read_bytes[::2]
    assert facts.layer_bytes[1] == facts.read_bytes[1]


def test_a_cache_of_latents_does_not_divide(tmp_path: Path) -> None:
    create_checkpoint(tmp_path / "m", family="deepseek_v2", dtype="float32")
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu", threads=1))
    assert not model_facts(setup, "m").kv_divides
    assert model_facts(_setup(tmp_path / "llama"), "m").kv_divides


def test_narrower_weights_are_smaller(tmp_path: Path) -> None:
    wide = model_facts(_setup(tmp_path / "m"), "m")
    narrow = model_facts(_setup(tmp_path / "narrow", dtype="bfloat16"), "m")
    assert [2 * each for each in narrow.layer_bytes] == wide.layer_bytes
    assert 2 * narrow.kv_bytes_per_token == wide.kv_bytes_per_token


def _rewritten(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """The file with other content, another order, other spaces and line ends."""
    said = json.loads(path.read_text())
    change(said)
    turned = dict(reversed(said.items()))
    path.write_bytes(json.dumps(turned, indent=7).replace("\n", "\r\n").encode())


def test_other_weights_are_another_model(tmp_path: Path) -> None:
    one, same, other = (
        model_facts(_setup(tmp_path / name, seed=seed), "m")
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert same == one
    assert other == msgspec.structs.replace(one, weights=other.weights)
    assert other != one


def test_how_files_are_written_makes_no_other_model(tmp_path: Path) -> None:
    one = model_facts(_setup(tmp_path / "m"), "m")

    def resave(config: dict[str, Any]) -> None:
        config["transformers_version"] = "99.0"
        config["_name_or_path"] = "elsewhere"

    def train(tokenizer: dict[str, Any]) -> None:
        tokenizer["truncation"] = {
            "direction": "Right",
            "max_length": 16,
            "strategy": "LongestFirst",
            "stride": 0,
        }
        merges = tokenizer["model"]["merges"]
        tokenizer["model"]["merges"] = [
            pair.split(" ", 1) if isinstance(pair, str) else " ".join(pair) for pair in merges
        ]

    _rewritten(tmp_path / "m" / "config.json", resave)
    _rewritten(tmp_path / "m" / "tokenizer.json", train)
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu", threads=1))
    assert model_facts(setup, "m") == one


def test_what_the_engine_reads_of_a_configuration_is_a_fact_by_name(tmp_path: Path) -> None:
    one = model_facts(_setup(tmp_path / "m"), "m")
    assert one.settings["hidden_size"].isdecimal()

    def change(config: dict[str, Any]) -> None:
        config["rms_norm_eps"] = 0.5

    _rewritten(tmp_path / "m" / "config.json", change)
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu", threads=1))
    other = model_facts(setup, "m")
    assert one.settings.items() ^ other.settings.items() == {
        ("norm_eps", "0.5"),
        ("norm_eps", one.settings["norm_eps"]),
    }


def test_another_tokenizer_is_another_model(tmp_path: Path) -> None:
    one = model_facts(_setup(tmp_path / "m"), "m")

    def swap(tokenizer: dict[str, Any]) -> None:
        vocabulary = tokenizer["model"]["vocab"]
        first, second = list(vocabulary)[-2:]
        vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]

    _rewritten(tmp_path / "m" / "tokenizer.json", swap)
    setup = prepare(EngineOptions(directory=tmp_path / "m", device="cpu", threads=1))
    other = model_facts(setup, "m")
    assert other == msgspec.structs.replace(one, tokenizer=other.tokenizer)
    assert other != one


_DIVISIBLE = Size(2, 64, 192, 4, 2, 16, 320, 256)


def _quantized(directory: Path, name: str) -> ModelSetup:
    create_checkpoint(directory / "m", family="qwen2", dtype="float32", size=_DIVISIBLE)
    few, _ = quantize(directory / "m", KINDS[name], directory)
    return prepare(EngineOptions(directory=few, dtype="bfloat16", device="cpu", threads=1))


def test_quantised_weights_are_counted_as_they_are_kept(tmp_path: Path) -> None:
    """Four bits, and a scale and a minimum of four bytes for each 32; all else is wide."""
    facts = model_facts(_quantized(tmp_path / "gptq", "gptq"), "m")
    matrices = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 192 * 64
    vectors = 2 * 64 + 64 + 2 * 32
    assert facts.layer_bytes == [matrices // 2 + matrices // 32 * 8 + 2 * vectors] * 2
    assert facts.embedding_bytes == 2 * 320 * 64


def test_a_quantised_embedding_is_counted_as_it_is_kept(tmp_path: Path) -> None:
    facts = model_facts(_quantized(tmp_path / "mlx", "mlx 4 bits"), "m")
    assert facts.embedding_bytes == 320 * 64 // 2 + 320 * 64 // 32 * 8


def test_machines_agree_on_what_codes_mean(tmp_path: Path) -> None:
    setup = _quantized(tmp_path / "gptq", "gptq")
    first = model_facts(setup, "m")
    path = setup.options.directory / "config.json"
    config = json.loads(path.read_text())
    config["quantization_config"]["checkpoint_format"] = "gptq_v2"
    path.write_text(json.dumps(config))
    second = model_facts(setup, "m")
    assert first.weights == second.weights
    assert first.settings != second.settings


def test_a_cache_of_eight_bits_is_another_number_format(tmp_path: Path) -> None:
    wide = _setup(tmp_path / "m")
    narrow = msgspec.structs.replace(wide, kv_cache=CacheFormat.INT8)
    facts = model_facts(narrow, "m")
    assert facts.dtype == "float32/whole/int8 cache"
    assert facts.kv_bytes_per_token < model_facts(wide, "m").kv_bytes_per_token / 3
    own, other = (hello(model={"dtype": one.dtype}) for one in (facts, model_facts(wide, "m")))
    with pytest.raises(PeerRefused, match="set --dtype, --quantize and --kv-cache alike"):
        check_compatible(own, other)


def test_what_a_device_does_not_keep_in_few_bits_is_counted_in_full(tmp_path: Path) -> None:
    """NF4's numbers are no multiples of one another: CPUs have no loops for them."""
    facts = model_facts(_quantized(tmp_path / "nf4", "bitsandbytes nf4"), "m")
    matrices = 2 * 64 * 64 + 2 * 32 * 64 + 3 * 192 * 64
    vectors = 2 * 64 + 64 + 2 * 32
    assert facts.layer_bytes == [2 * (matrices + vectors)] * 2


def test_a_rounded_head_is_counted_beside_its_embedding(tmp_path: Path) -> None:
    overrides = {"tie_word_embeddings": True}
    create_checkpoint(tmp_path / "m", family="qwen3", dtype="float32", overrides=overrides)
    facts = []
    for quantization in (None, Quantization.INT4):
        options = EngineOptions(directory=tmp_path / "m", device="cpu", quantization=quantization)
        facts.append(model_facts(prepare(options), "m"))
    whole, rounded = facts
    assert model_bytes(whole) == sum(whole.layer_bytes) + whole.embedding_bytes
    assert model_bytes(rounded) == sum(rounded.layer_bytes) + 2 * rounded.embedding_bytes
