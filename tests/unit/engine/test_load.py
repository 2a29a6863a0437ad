"""What is chosen before weights are read: device, dtype, threads, room for the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from tandem.engine import (
    CACHE_SHARE,
    DEMO_MODEL,
    ITEM_BYTES,
    Backend,
    CacheFormat,
    EngineOptions,
    ModelSetup,
    Quantization,
    SchedulerLimits,
    backends,
    default_kv_tokens,
    kv_bytes_per_token,
    prepare,
    resolve_model,
)
from tandem.engine.checkpoint.quantized.tensor import QuantizedTensor
from tandem.engine.load import choose_device, draft_bytes
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import ConfigurationError

TWO_GPUS = ["cuda:0", "cuda:1", "cpu"]
MAC = ["mps", "cpu"]


class PlayedBackend:
    """A machine with two GPUs that prefers float16, of which nothing is loaded."""

    def __init__(self, free_bytes: int = 0) -> None:
        self.threads: list[int] = []
        self._free_bytes = free_bytes

    def devices(self) -> list[str]:
        return TWO_GPUS

    def compute_dtype(self, stored: str, device: str) -> str:
        return "float16" if device.startswith("cuda") else stored

    def use_threads(self, count: int) -> None:
        self.threads.append(count)

    def keeps(self, weight: QuantizedTensor, device: str) -> bool:  # noqa: ARG002
        return True

    def free_bytes(self, device: str) -> int:
        return self._free_bytes if device == "cuda:1" else 1


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> PlayedBackend:
    backend = PlayedBackend()
    row = {"played": lambda: cast("Backend[Any]", backend)}
    monkeypatch.setattr(backends, "BACKENDS", backends.BACKENDS | row)
    return backend


def options(**changes: object) -> EngineOptions:
    return msgspec.structs.replace(
        EngineOptions(directory=resolve_model(DEMO_MODEL), backend="played"), **changes
    )


@pytest.mark.parametrize(
    ("wanted", "available", "chosen"),
    [
        ("auto", TWO_GPUS, "cuda:0"),
        ("auto", MAC, "mps"),
        ("auto", ["cpu"], "cpu"),
        ("cuda", TWO_GPUS, "cuda:0"),
        ("cuda:1", TWO_GPUS, "cuda:1"),
        ("cpu", TWO_GPUS, "cpu"),
        ("mps", MAC, "mps"),
    ],
)
def test_a_device_is_the_best_one_of_its_name(
    wanted: str, available: list[str], chosen: str
) -> None:
    assert choose_device(wanted, available) == chosen


@pytest.mark.parametrize("wanted", ["mps", "cuda:2", "cuda:", "gpu", "", "CPU"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(wanted: str) -> None:
    with pytest.raises(ConfigurationError, match="auto, cuda:0, cuda:1, cpu"):
        choose_device(wanted, TWO_GPUS)


def test_the_setup_names_the_concrete_device(played: PlayedBackend) -> None:
    assert prepare(options()).device == "cuda:0"
    assert prepare(options(device="cuda:1")).device == "cuda:1"


def test_a_small_model_is_float32_anywhere(played: PlayedBackend) -> None:
    assert prepare(options()).dtype == "float32"


def test_a_large_model_is_what_the_device_computes_best(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tandem.engine.load._SMALL_MODEL_PARAMETERS", 1)
    assert prepare(options()).dtype == "float16"
    assert prepare(options(device="cpu", dtype="bfloat16")).dtype == "bfloat16"


def test_threads_are_the_backends(played: PlayedBackend) -> None:
    prepare(options())
    prepare(options(threads=3))
    assert played.threads == [3]


def test_the_cache_takes_its_share_of_the_devices_own_memory(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = prepare(options(device="cuda:1"))
    a_token = kv_bytes_per_token(setup.config, setup.dtype)
    monkeypatch.setattr(played, "_free_bytes", int(100 * a_token / CACHE_SHARE) + 1)
    assert default_kv_tokens(setup) == 100


def test_a_cache_of_eight_bits_holds_more_tokens(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = prepare(options(device="cuda:1", dtype="bfloat16", kv_cache=CacheFormat.INT8))
    config = setup.config
    # A byte a number, and a scale for each head of a token, of keys and of values.
    a_token = 2 * config.num_layers * config.num_kv_heads * (config.head_dim + 4)
    assert kv_bytes_per_token(config, setup.dtype, CacheFormat.INT8) == a_token
    monkeypatch.setattr(played, "_free_bytes", int(100 * a_token / CACHE_SHARE) + 1)
    assert default_kv_tokens(setup) == 100


def test_the_cache_is_no_larger_than_all_sequences_at_full_context(played: PlayedBackend) -> None:
    setup = prepare(options(device="cuda:1", scheduling=SchedulerLimits(max_sequences=2)))
    plenty = cast("Backend[Any]", PlayedBackend(10**15))
    setup = msgspec.structs.replace(setup, backend=plenty)
    assert default_kv_tokens(setup) == 2 * setup.config.context_length


def test_a_full_device_still_has_a_block(played: PlayedBackend) -> None:
    setup: ModelSetup = prepare(options())
    assert default_kv_tokens(setup) == setup.options.block_size


def test_an_unknown_name_is_refused(played: PlayedBackend) -> None:
    for changes in ({"dtype": "int4"}, {"backend": "abacus"}):
        with pytest.raises(ConfigurationError, match="expected"):
            prepare(options(**changes))


def test_a_directory_without_a_model_is_an_error_of_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="device is 'tpu'"):
        prepare(options(backend="pytorch", device="tpu"))


def test_a_draft_model_and_its_cache_count_in_the_memory(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = options().directory
    setup = prepare(options(device="cuda:1", speculate=draft))
    assert setup.draft is not None
    assert (setup.draft.options.directory, setup.draft.draft) == (draft, None)
    a_token = kv_bytes_per_token(setup.config, setup.dtype)
    monkeypatch.setattr(played, "_free_bytes", int(200 * a_token / CACHE_SHARE) + 1)
    assert default_kv_tokens(setup) == 100
    beside = 4 * setup.config.hidden_size  # the last norm, which is not worth counting
    assert draft_bytes(setup) == 4 * setup.draft.parameters - beside + 100 * a_token
    assert draft_bytes(prepare(options())) == 0
    narrow = prepare(options(speculate=draft, dtype="bfloat16")).draft
    assert narrow is not None
    assert narrow.dtype == "bfloat16"


def test_of_a_draft_model_in_four_bits_the_embedding_counts_as_it_is(
    played: PlayedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the head, which is rounded."""
    setup = prepare(options(device="cuda:1", speculate=options().directory, kv_tokens=1))
    rounded = prepare(
        options(
            device="cuda:1",
            speculate=options().directory,
            kv_tokens=1,
            quantization=Quantization.INT4,
        )
    )
    config = setup.config
    assert config.tie_word_embeddings
    ends = ITEM_BYTES[setup.dtype] * config.vocab_size * config.hidden_size
    a_token = kv_bytes_per_token(config, setup.dtype)
    layers = draft_bytes(setup) - ends - a_token
    assert draft_bytes(rounded) - 2 * ends - a_token == pytest.approx(layers * 0.5625 / 4, rel=0.01)


def test_a_draft_model_of_another_vocabulary_is_refused(
    played: PlayedBackend, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    create_checkpoint(other, family="llama")
    with pytest.raises(ConfigurationError, match="same vocabulary") as caught:
        prepare(options(speculate=other))
    assert str(other) in caught.value.message
