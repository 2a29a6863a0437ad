"""What PyTorch finds in a machine, played where this machine has none of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import psutil
import pytest
import torch
from tests.support.models.shapes import SHAPES
from transformers import Phi3ForCausalLM

from tandem.engine import DeviceFacts, EngineOptions, Solo, StepPlan, prepare, whole
from tandem.engine.backends.pytorch.backend import TorchBackend
from tandem.engine.checkpoint.dtypes import Quantization
from tandem.engine.core.step import SampleSpec, SequenceStep
from tandem.engine.families import FAMILIES
from tandem.engine.families.moe import MoeFamily
from tandem.engine.random_checkpoint import create_checkpoint

GIB = 2**30
BACKEND = TorchBackend()
#: Which experts are chosen is a number that such a device has not.
DENSE = [row.name for row in FAMILIES.values() if not isinstance(row, MoeFamily)]


def play(monkeypatch: pytest.MonkeyPatch, *, gpus: int = 0, apple: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)


@pytest.mark.parametrize(
    ("gpus", "apple", "devices"),
    [(0, False, ["cpu"]), (2, False, ["cuda:0", "cuda:1", "cpu"]), (0, True, ["mps", "cpu"])],
)
def test_devices_come_best_first(
    monkeypatch: pytest.MonkeyPatch, gpus: int, apple: bool, devices: list[str]
) -> None:
    play(monkeypatch, gpus=gpus, apple=apple)
    assert BACKEND.devices() == devices


def test_a_device_is_described_by_its_name_and_its_own_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cards = {"cuda:0": ("NVIDIA H100", 80 * GIB), "cuda:1": ("NVIDIA T4", 16 * GIB)}
    facts = {d: SimpleNamespace(name=n, total_memory=size) for d, (n, size) in cards.items()}
    monkeypatch.setattr(torch.cuda, "get_device_properties", facts.__getitem__)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 5 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=8 * GIB))
    assert BACKEND.describe("cuda:0") == DeviceFacts("cuda:0 NVIDIA H100", 80 * GIB)
    assert BACKEND.describe("cuda:1") == DeviceFacts("cuda:1 NVIDIA T4", 16 * GIB)
    assert BACKEND.describe("mps") == DeviceFacts("mps", 5 * GIB)
    assert BACKEND.describe("cpu") == DeviceFacts("cpu", 8 * GIB)


@pytest.mark.parametrize("has_it", [True, False])
@pytest.mark.parametrize("device", ["cuda:0", "mps"])
def test_gpus_compute_bfloat16_where_they_have_it(
    monkeypatch: pytest.MonkeyPatch, device: str, has_it: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_it)
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda *_: has_it)
    assert BACKEND.compute_dtype("bfloat16", device) == ("bfloat16" if has_it else "float16")
    assert BACKEND.compute_dtype("float16", device) == "float16"
    assert BACKEND.compute_dtype("float32", device) == "float32"


@pytest.mark.parametrize("packs", [True, False])
def test_cpus_never_compute_float16(monkeypatch: pytest.MonkeyPatch, packs: bool) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: packs)
    assert BACKEND.compute_dtype("float16", "cpu") == "float32"
    assert BACKEND.compute_dtype("bfloat16", "cpu") == ("bfloat16" if packs else "float32")


def test_free_memory_is_the_devices_own(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cuda:0": 1 * GIB, "cuda:1": 2 * GIB}
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[device], 80 * GIB))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=3 * GIB))
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 5 * GIB)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 4 * GIB)
    found = [BACKEND.free_bytes(device) for device in ("cpu", "cuda:0", "cuda:1", "mps")]
    assert found == [3 * GIB, 1 * GIB, 2 * GIB, 1 * GIB]


@pytest.mark.parametrize("quantization", [None, Quantization.INT8])
@pytest.mark.parametrize("family", DENSE)
def test_no_array_is_made_of_what_is_on_another_device(
    tmp_path: Path, family: str, quantization: Quantization | None
) -> None:
    """A step on a device that has shapes but no numbers: whoever reads memory there fails."""
    create_checkpoint(tmp_path / "m", family=family, dtype="bfloat16")
    options = EngineOptions(
        directory=tmp_path / "m", dtype="bfloat16", quantization=quantization, device="cpu"
    )
    setup = prepare(options)
    setup = msgspec.structs.replace(setup, device="meta")
    stage = BACKEND.load_stage(setup, whole(setup.config), Solo(), 8)
    steps = [
        SequenceStep(0, [5, 6, 7], 0, [0], SampleSpec(3)),
        SequenceStep(1, [8], 20, [1, 2], SampleSpec(21)),
    ]
    run = stage.begin(StepPlan(1, steps, [3]))
    logits = run.logits(run.forward())
    assert logits is not None
    assert (logits.device.type, logits.dtype) == ("meta", torch.float32)
    assert logits.shape == (2, setup.config.vocab_size)


@pytest.mark.parametrize(("blocks", "length"), [(2, 25), (3, 40)])
@torch.inference_mode()
def test_what_a_cache_has_room_for_decides_between_factors_of_longrope(
    tmp_path: Path, blocks: int, length: int
) -> None:
    """A cache of 32 tokens can have no sequence beyond the original context, one of 48 can."""
    family, size, overrides = SHAPES["phi3-long-context"]
    changed = dict(overrides) | {"original_max_position_embeddings": 32}
    directory = tmp_path / "m"
    create_checkpoint(directory, family=family, size=size, dtype="float32", overrides=changed)
    setup = prepare(EngineOptions(directory=directory, dtype="float32", device="cpu"))
    stage = BACKEND.load_stage(setup, whole(setup.config), Solo(), blocks)
    tokens = [3 + number * 7 % 290 for number in range(length)]
    step = SequenceStep(0, tokens, 0, list(range(blocks)), SampleSpec(length))
    run = stage.begin(StepPlan(1, [step]))
    logits = run.logits(run.forward())
    assert logits is not None
    oracle = Phi3ForCausalLM.from_pretrained(directory)
    expected = oracle(torch.tensor([tokens])).logits[0, -1]
    torch.testing.assert_close(logits[0], expected, rtol=1e-4, atol=1e-4)
