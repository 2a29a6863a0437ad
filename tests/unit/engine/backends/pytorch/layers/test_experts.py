"""Mixtures of experts: who is chosen, who is read, and that rows keep to themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.tensors import assert_close, random_quantized, random_tensor
from torch.nn import functional

from tandem.engine import EngineOptions, Quantization, Solo, create_checkpoint, prepare, whole
from tandem.engine.backends.pytorch.kernels import packed
from tandem.engine.backends.pytorch.kernels.experts import choose_experts
from tandem.engine.backends.pytorch.kernels.packed import PackedWeight
from tandem.engine.backends.pytorch.kernels.tiled.experts import MOST_ROWS
from tandem.engine.backends.pytorch.kernels.tiled.linear import TiledLinear, tile_codes
from tandem.engine.backends.pytorch.kernels.tiled.vectors import HAS_TILES
from tandem.engine.backends.pytorch.kernels.tiled.weights import TiledNumbers, TiledWeight
from tandem.engine.backends.pytorch.layers.experts import (
    ExpertMLP,
    Experts,
    FewRowsFirst,
    GroupedExperts,
    SharedExpert,
    make_experts,
)
from tandem.engine.backends.pytorch.layers.linear import Linear, make_linear
from tandem.engine.backends.pytorch.layers.mlp import (
    ClampedGate,
    Expert,
    Gate,
    Gating,
    gelu_tanh,
)
from tandem.engine.backends.pytorch.layers.router import Chosen, Float32Linear, Router
from tandem.engine.backends.pytorch.layers.tiled_experts import (
    PackedExperts,
    TiledExperts,
    make_few_rows,
)
from tandem.engine.backends.pytorch.models import experts as models
from tandem.engine.families.mlp import GateClamp, Routing

HIDDEN, COLUMNS, EXPERTS = 24, 16, 7


@dataclass
class Counted:
    """A linear map that knows how many rows it has multiplied."""

    linear: Linear
    rows: list[int] = field(default_factory=list)

    def __call__(self, states: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
        self.rows.append(len(states))
        return self.linear(states, dtype)


def expert(number: int, dtype: torch.dtype = torch.float32) -> Expert:
    gate_up = random_tensor(2 * COLUMNS, HIDDEN, seed=number, dtype=dtype)
    down = random_tensor(HIDDEN, COLUMNS, seed=100 + number, dtype=dtype)
    return Expert(
        Counted(make_linear(gate_up, None, None)),
        Counted(make_linear(down, None, None)),
        Gate(functional.silu),
    )


def router(routing: Routing) -> Router:
    weight, bias = random_tensor(EXPERTS, HIDDEN, seed=7), random_tensor(EXPERTS, seed=8)
    return Router(Float32Linear(weight, bias, torch.bfloat16), routing)


def gate(seed: int) -> Float32Linear:
    return Float32Linear(random_tensor(1, HIDDEN, seed=seed), None, torch.float32)


def choice(rows: int, top_k: int, seed: int) -> Chosen:
    return router(Routing(top_k, renormalised=True))(random_tensor(rows, HIDDEN, seed=seed))


@pytest.mark.parametrize("renormalised", [True, False])
def test_the_likeliest_are_chosen_and_count_as_likely_as_they_are(renormalised: bool) -> None:
    states = random_tensor(5, HIDDEN, seed=1)
    chosen = router(Routing(3, renormalised))(states)
    logits = states @ random_tensor(EXPERTS, HIDDEN, seed=7).T + random_tensor(EXPERTS, seed=8)
    for row in range(5):
        powers = logits[row].exp()
        best = powers.argsort(descending=True)[:3]
        assert torch.equal(chosen.experts[row], best)
        total = powers[best].sum() if renormalised else powers.sum()
        assert_close(chosen.factors[row], powers[best] / total)


def test_narrow_states_are_routed_in_float32() -> None:
    """Logits of bfloat16 would often be equal."""
    states = random_tensor(64, HIDDEN, seed=1, dtype=torch.bfloat16)
    routed = router(Routing(3, renormalised=True))
    assert routed(states).factors.dtype == torch.float32
    assert torch.equal(routed(states).experts, routed(states.float()).experts)


@given(
    rows=st.integers(1, 9),
    top_k=st.integers(1, EXPERTS),
    seed=st.integers(0, 99),
    cut=st.integers(0, EXPERTS),
)
@settings(max_examples=40, deadline=None)
def test_what_ranks_hold_adds_up_to_each_rows_experts(
    rows: int, top_k: int, seed: int, cut: int
) -> None:
    states, chosen = random_tensor(rows, HIDDEN, seed=seed), choice(rows, top_k, seed)
    experts = [expert(number) for number in range(EXPERTS)]
    found = GroupedExperts(experts[:cut], 0)(states, chosen)
    found += GroupedExperts(experts[cut:], cut)(states, chosen)
    for row in range(rows):
        expected = torch.zeros(1, HIDDEN)
        for number, factor in zip(chosen.experts[row], chosen.factors[row], strict=True):
            expected += factor * expert(int(number))(states[row : row + 1])
        assert_close(found[row : row + 1], expected)


def test_experts_that_no_row_has_chosen_are_not_read() -> None:
    experts = [expert(number) for number in range(EXPERTS)]
    chosen = Chosen(torch.tensor([[2, 5], [5, 0]]), torch.full((2, 2), 0.5))
    GroupedExperts(experts, 0)(random_tensor(2, HIDDEN), chosen)
    for part in ("gate_up", "down"):
        assert [getattr(one, part).rows for one in experts] == [[1], [], [1], [], [], [2], []]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_rows_result_does_not_depend_on_the_order_of_its_choice(dtype: torch.dtype) -> None:
    experts = [expert(number, dtype) for number in range(EXPERTS)]
    states = random_tensor(1, HIDDEN, dtype=dtype)
    one = Chosen(torch.tensor([[4, 1, 3]]), torch.tensor([[0.2, 0.5, 0.3]]))
    other = Chosen(torch.tensor([[1, 3, 4]]), torch.tensor([[0.5, 0.3, 0.2]]))
    grouped = GroupedExperts(experts, 0)
    assert torch.equal(grouped(states, one), grouped(states, other))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_spoil_their_own_row_alone(bad: float) -> None:
    states = random_tensor(4, HIDDEN, seed=3)
    mlp = ExpertMLP(
        router(Routing(2, renormalised=True)),
        GroupedExperts([expert(number) for number in range(EXPERTS)], 0),
        SharedExpert(expert(50), gate(0)),
        Solo(),
    )
    expected = mlp(states)
    states[1, 5] = bad
    found = mlp(states)
    assert not found[1].isfinite().any()
    assert_close(found[[0, 2, 3]], expected[[0, 2, 3]])


def test_the_shared_expert_is_for_all_rows_and_has_a_gate() -> None:
    states, mlp = random_tensor(3, HIDDEN, seed=4), expert(50)
    assert_close(SharedExpert(mlp, None)(states), mlp(states))
    shares = torch.sigmoid(states @ random_tensor(1, HIDDEN, seed=5).T)
    assert_close(SharedExpert(mlp, gate(5))(states), shares * mlp(states))


WIDE, BROAD = 128, 64  # whole tiles


def tiled(count: int, gating: Gating, *, biases: bool) -> list[Expert]:
    def linear(outputs: int, inputs: int, seed: int) -> Linear:
        weight = random_tensor(outputs, inputs, seed=seed, dtype=torch.bfloat16) / 8
        bias = random_tensor(outputs, seed=seed + 1, dtype=torch.bfloat16) if biases else None
        return make_linear(weight, bias, None)

    return [
        Expert(linear(2 * BROAD, WIDE, 4 * number), linear(WIDE, BROAD, 4 * number + 2), gating)
        for number in range(count)
    ]


@pytest.mark.skipif(not PackedWeight.is_fast(), reason="this CPU has no such instructions")
@pytest.mark.parametrize("biases", [False, True])
@pytest.mark.parametrize(
    "gating", [Gate(functional.silu), ClampedGate(GateClamp(limit=0.6, alpha=1.7))]
)
@given(rows=st.integers(1, 9), top_k=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_loops_over_tiles_give_what_one_expert_after_the_other_gives(
    gating: Gating, biases: bool, rows: int, top_k: int, seed: int
) -> None:
    experts = tiled(5, gating, biases=biases)
    loops = PackedExperts.of(experts[1:], 1)
    assert loops is not None
    states = random_tensor(rows, WIDE, seed=seed, dtype=torch.bfloat16)
    logits = random_tensor(rows, 5, seed=seed + 1)
    factors, numbers = torch.softmax(logits, dim=-1).topk(top_k)
    chosen = Chosen(numbers, factors)
    found = loops(states, chosen)
    with pytest.MonkeyPatch.context() as patched:  # else the race decides how often it rounds
        patched.setattr(packed._tuner, "kernel", lambda _: packed.COMPILED)
        expected = GroupedExperts(experts[1:], 1)(states, chosen)
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    for row in range(rows):
        alone = Chosen(numbers[row : row + 1], factors[row : row + 1])
        assert torch.equal(loops(states[row : row + 1], alone)[0], found[row])


def codes_linear(kind: str, outputs: int, inputs: int, seed: int, *, biased: bool) -> TiledLinear:
    weight: TiledWeight
    if kind == "bfloat16":
        weight = TiledNumbers(random_tensor(outputs, inputs, seed=seed, dtype=torch.bfloat16) / 8)
    else:
        stored = random_quantized(outputs, inputs, seed=seed, minimums=kind == "minimums")
        codes = tile_codes(stored.widened() if kind == "bytes" else stored)
        assert codes is not None
        weight = codes
    bias = random_tensor(outputs, seed=seed + 1, dtype=torch.bfloat16) if biased else None
    return TiledLinear(weight, bias)


def in_tiles(kinds: list[tuple[str, str]], gating: Gating, *, biased: bool) -> list[Expert]:
    return [
        Expert(
            codes_linear(gate_up, 2 * BROAD, WIDE, 4 * number, biased=biased),
            codes_linear(down, WIDE, BROAD, 4 * number + 2, biased=biased),
            gating,
        )
        for number, (gate_up, down) in enumerate(kinds)
    ]


GATINGS = [Gate(functional.silu), Gate(gelu_tanh), ClampedGate(GateClamp(limit=0.6, alpha=1.7))]


@pytest.mark.skipif(not HAS_TILES, reason="this CPU has no fast loops over tiles")
@pytest.mark.parametrize(
    "kinds", [("bfloat16", "bfloat16"), ("minimums", "bytes"), ("codes", "codes")]
)
@given(
    gating=st.sampled_from(GATINGS),
    biased=st.booleans(),
    rows=st.integers(1, 9),
    top_k=st.integers(1, 5),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_a_call_for_all_experts_gives_what_one_after_the_other_gives(
    kinds: tuple[str, str], gating: Gating, biased: bool, rows: int, top_k: int, seed: int
) -> None:
    """Of five experts the last four are here; a row may have chosen none of those."""
    experts = in_tiles([kinds] * 5, gating, biased=biased)[1:]
    loops = TiledExperts.of(experts, 1)
    assert loops is not None
    states = random_tensor(rows, WIDE, seed=seed, dtype=torch.bfloat16)
    assert loops.is_fast(states)
    logits = random_tensor(rows, 5, seed=seed + 1)
    factors, numbers = torch.softmax(logits, dim=-1).topk(top_k)
    found = loops(states, Chosen(numbers, factors))
    expected = GroupedExperts(experts, 1)(states, Chosen(numbers, factors))
    # Gates are rounded alike but where they are clamped, so what is seen is bfloat16's last bit.
    assert (found - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))
    for row in range(rows):
        alone = Chosen(numbers[row : row + 1], factors[row : row + 1])
        assert torch.equal(loops(states[row : row + 1], alone)[0], found[row])


@pytest.mark.skipif(not HAS_TILES, reason="this CPU has no fast loops over tiles")
@pytest.mark.parametrize("quantization", list(Quantization))
def test_experts_in_few_bits_are_a_call_a_layer(
    quantization: Quantization, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_checkpoint(tmp_path / "m", family="qwen3_moe")
    made: list[Experts] = []

    def watched(experts: Sequence[Expert], first: int) -> Experts:
        made.append(make_experts(experts, first))
        return made[-1]

    monkeypatch.setattr(models, "make_experts", watched)
    options = EngineOptions(
        directory=tmp_path / "m", dtype="bfloat16", quantization=quantization, device="cpu"
    )
    setup = prepare(options)
    setup.backend.load_stage(setup, whole(setup.config), Solo(), 1)
    assert len(made) == setup.config.num_layers
    assert all(isinstance(experts, FewRowsFirst) for experts in made)


@pytest.mark.skipif(not HAS_TILES, reason="this CPU has no fast loops over tiles")
def test_the_number_of_threads_changes_nothing_in_the_experts() -> None:
    experts = in_tiles([("minimums", "codes")] * 5, Gate(functional.silu), biased=True)
    loops = TiledExperts.of(experts, 0)
    assert loops is not None
    states = random_tensor(7, WIDE, dtype=torch.bfloat16)
    factors, numbers = torch.softmax(random_tensor(7, 5, seed=1), dim=-1).topk(3)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append(loops(states, Chosen(numbers, factors)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(result, results[0]) for result in results)


def test_loops_are_for_gates_and_weights_that_they_know() -> None:
    assert make_few_rows([], 0) is None
    assert make_few_rows(tiled(2, Gate(functional.gelu), biases=False), 0) is None
    assert make_few_rows([expert(0), expert(1)], 0) is None
    mixed = [("codes", "codes"), ("bytes", "codes")]
    assert TiledExperts.of(in_tiles(mixed, Gate(functional.silu), biased=False), 0) is None


def test_many_rows_and_wide_states_go_by_groups() -> None:
    loops = TiledExperts.of(in_tiles([("codes", "codes")], Gate(functional.silu), biased=False), 0)
    assert loops is not None
    assert not loops.is_fast(torch.zeros((MOST_ROWS + 1, WIDE), dtype=torch.bfloat16))
    assert not loops.is_fast(torch.zeros((1, WIDE)))


@given(
    rows=st.lists(
        st.lists(
            st.sampled_from([0.0, 1.0, -3.5, 88.0, math.nan, math.inf, -math.inf]),
            min_size=EXPERTS,
            max_size=EXPERTS,
        ),
        min_size=1,
        max_size=3,
    ),
    top_k=st.integers(1, EXPERTS),
)
def test_whatever_the_logits_are_others_are_chosen_each_time(
    rows: list[list[float]], top_k: int
) -> None:
    logits = np.array(rows, np.float32)
    experts, factors = (
        np.empty((len(rows), top_k), np.int64),
        np.empty((len(rows), top_k), np.float32),
    )
    choose_experts(logits, True, experts, factors)
    for row, numbers in enumerate(experts.tolist()):
        assert len(set(numbers)) == top_k
        assert set(numbers) <= set(range(EXPERTS))
        if np.isfinite(logits[row]).all():
            assert factors[row].sum() == pytest.approx(1.0)
            assert sorted(logits[row][numbers]) == sorted(sorted(logits[row])[-top_k:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_logits_of_a_row_are_its_own_to_the_bit(dtype: torch.dtype) -> None:
    states = random_tensor(9, HIDDEN, seed=3, dtype=dtype)
    for weights in (torch.float32, torch.bfloat16):
        weight = random_tensor(EXPERTS, HIDDEN, seed=7).to(weights).float()
        linear = Float32Linear(weight, random_tensor(EXPERTS, seed=8), dtype)
        found = linear(states)
        assert_close(found, states.float() @ weight.T + random_tensor(EXPERTS, seed=8))
        assert all(torch.equal(linear(states[row : row + 1])[0], found[row]) for row in range(9))
