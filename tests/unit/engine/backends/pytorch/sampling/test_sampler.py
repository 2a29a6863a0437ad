"""Choosing tokens: each rule beside a plain reckoning of it; draws depend on nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tandem.engine.backends.pytorch.sampling.philox import uniform
from tandem.engine.backends.pytorch.sampling.sampler import sample
from tandem.engine.core.sampling import LogitBias, pack
from tandem.engine.core.step import SampleSpec

#: Far enough apart that rounding changes no order.
LOGITS = [2.0, 1.0, 0.5, 0.0, -1.0, -3.0]
SPECS = st.builds(
    SampleSpec,
    position=st.integers(0, 1000),
    seed=st.integers(0, 2**63 - 1),
    choice=st.integers(0, 9),
    temperature=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    top_p=st.sampled_from([0.3, 0.9, 1.0]),
    top_k=st.integers(0, 7),
    min_p=st.sampled_from([0.0, 0.1, 0.5]),
)
_TOKENS = st.lists(st.integers(0, 5), max_size=8)
#: With all that changes logits, and with what is told of them.
ANY = st.builds(
    lambda spec, more: SampleSpec(**_fields(spec) | more),
    SPECS,
    st.fixed_dictionaries(
        {},
        optional={
            "repetition_penalty": st.sampled_from([0.5, 1.5]),
            "presence_penalty": st.sampled_from([-0.5, 0.25]),
            "frequency_penalty": st.sampled_from([-0.5, 0.25]),
            "logit_bias": st.dictionaries(st.integers(0, 5), st.floats(-9, 9, width=32)).map(
                LogitBias.of
            ),
            "logprobs": st.integers(0, 7),
            "prompt": _TOKENS.map(pack),
            "output": _TOKENS.map(pack),
        },
    ),
)


def chosen(logits: list[float], spec: SampleSpec) -> int | None:
    (found,) = sample(torch.tensor([logits]), [7], [spec])
    assert found.sequence_id == 7
    return found.token


def possible(spec: SampleSpec, logits: list[float] = LOGITS) -> set[int | None]:
    """The tokens that a few hundred draws give."""
    draws = [SampleSpec(**_fields(spec) | {"position": position}) for position in range(400)]
    rows = torch.tensor([logits] * len(draws))
    return {found.token for found in sample(rows, range(len(draws)), draws)}


def _fields(spec: SampleSpec) -> dict[str, Any]:
    return {name: getattr(spec, name) for name in spec.__struct_fields__}


@given(st.permutations(LOGITS), SPECS)
def test_a_row_gives_in_any_batch_what_it_gives_alone(
    logits: list[float], spec: SampleSpec
) -> None:
    others = [SampleSpec(position=3, seed=9), SampleSpec(position=0, temperature=0.0)]
    rows = torch.tensor([LOGITS, logits, LOGITS])
    together = sample(rows, [1, 2, 3], [others[0], spec, others[1]])
    assert together[1].token == chosen(logits, spec)


@given(st.lists(st.tuples(st.permutations(LOGITS), ANY), min_size=1, max_size=6))
def test_a_batch_of_all_kinds_gives_what_each_row_gives_alone(
    rows: list[tuple[list[float], SampleSpec]],
) -> None:
    logits, specs = torch.tensor([row for row, _ in rows]), [spec for _, spec in rows]
    alone = [sample(logits[row, None], [row], [spec])[0] for row, spec in enumerate(specs)]
    assert sample(logits, range(len(rows)), specs) == alone


def test_a_large_batch_costs_no_more_calls_than_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted: list[int] = []
    softmax = torch.softmax

    def counting(states: torch.Tensor, dim: int) -> torch.Tensor:
        counted.append(len(states))
        return softmax(states, dim=dim)

    monkeypatch.setattr(torch, "softmax", counting)
    specs = [
        SampleSpec(0, seed=row, temperature=0.5 + row, top_p=0.9, top_k=row) for row in range(28)
    ]
    sample(torch.tensor([LOGITS] * 28), range(28), specs)
    assert counted == [28]


@given(st.permutations(LOGITS), SPECS)
def test_the_draw_walks_what_is_left_in_the_order_of_ids(
    logits: list[float], spec: SampleSpec
) -> None:
    if spec.temperature == 0.0:
        assert chosen(logits, spec) == int(np.argmax(logits))
        return
    weights = np.exp(np.array(logits) / spec.temperature)
    probabilities = weights / weights.sum()
    kept = probabilities >= spec.min_p * probabilities.max()
    ranked = np.argsort(-probabilities)
    if spec.top_k:
        kept &= np.isin(np.arange(len(logits)), ranked[: spec.top_k])
    mass = 0.0
    total = float(probabilities[kept].sum())
    for token in ranked:
        if kept[token]:
            kept[token] = mass < spec.top_p * total
            mass += float(probabilities[token])
    cumulative = np.cumsum(np.where(kept, probabilities, 0.0))
    target = uniform(spec.seed, spec.choice, spec.position) * cumulative[-1]
    expected = int(np.searchsorted(cumulative, target, side="right"))
    if np.abs(cumulative - target).min() > 1e-6:  # else rounding may decide
        assert chosen(logits, spec) == expected


def test_what_is_left_out_is_never_drawn() -> None:
    assert possible(SampleSpec(0, temperature=2.0)) == {0, 1, 2, 3, 4, 5}
    assert possible(SampleSpec(0, temperature=2.0, top_k=2)) == {0, 1}
    assert possible(SampleSpec(0, top_p=0.5)) == {0}
    assert possible(SampleSpec(0, min_p=0.3)) == {0, 1}
    assert possible(SampleSpec(0, top_p=0.001, top_k=0, min_p=1.0)) == {0}


def test_a_bias_is_added_before_all_else() -> None:
    greedy = SampleSpec(0, temperature=0.0, logit_bias=LogitBias.of({4: 3.5}))
    assert chosen(LOGITS, greedy) == 4
    assert 0 not in possible(SampleSpec(0, temperature=2.0, logit_bias=LogitBias.of({0: -100.0})))


@pytest.mark.parametrize(
    ("penalty", "expected"),
    [
        # 2.0 becomes 1.0 and 1.0 stays the first of the two.
        (SampleSpec(0, temperature=0.0, repetition_penalty=2.1, prompt=pack([0])), 1),
        (SampleSpec(0, temperature=0.0, presence_penalty=1.5, output=pack([0])), 1),
        (SampleSpec(0, temperature=0.0, frequency_penalty=0.6, output=pack([0, 0])), 1),
        # Once is too little, and a prompt is no output.
        (SampleSpec(0, temperature=0.0, frequency_penalty=0.6, output=pack([0])), 0),
        (SampleSpec(0, temperature=0.0, presence_penalty=1.5, prompt=pack([0])), 0),
    ],
)
def test_penalties_fall_on_what_was_there(penalty: SampleSpec, expected: int) -> None:
    assert chosen(LOGITS, penalty) == expected


def test_a_repetition_penalty_lowers_negative_logits_too() -> None:
    spec = SampleSpec(0, temperature=0.0, repetition_penalty=2.0, prompt=pack([0]))
    assert chosen([-1.0, -1.5], spec) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_logits_that_are_not_finite_choose_nothing_and_spoil_no_other_row(bad: float) -> None:
    rows = torch.tensor([[1.0, bad, 0.0], [0.0, 1.0, 2.0]])
    greedy = SampleSpec(0, temperature=0.0)
    assert [found.token for found in sample(rows, [1, 2], [greedy, greedy])] == [None, 2]


def test_logprobs_are_the_models_own_whatever_was_done_to_choose() -> None:
    spec = SampleSpec(0, temperature=0.0, logit_bias=LogitBias.of({4: 9.0}), logprobs=2)
    (found,) = sample(torch.tensor([LOGITS]), [0], [spec])
    expected = np.array(LOGITS) - np.log(np.exp(LOGITS).sum())
    assert found.token == 4
    assert found.logprob == pytest.approx(expected[4], abs=1e-6)
    assert [token for token, _ in found.top] == [0, 1]
    assert [value for _, value in found.top] == pytest.approx(expected[:2], abs=1e-6)


def test_options_that_break_the_sampler_cost_their_own_row_alone() -> None:
    broken = SampleSpec(position=0, logit_bias=LogitBias.of({len(LOGITS): 1.0}))
    nowhere = SampleSpec(position=0, temperature=0.5, logit_bias=LogitBias.of({0: float("nan")}))
    good = SampleSpec(position=0, temperature=0.0)
    rows = torch.tensor([LOGITS] * 4)
    found = sample(rows, range(4), [good, broken, nowhere, good])
    assert [entry.token for entry in found] == [0, None, None, 0]


@given(st.lists(st.integers(0, 5), max_size=8), st.lists(st.integers(0, 5), max_size=8))
def test_penalties_are_those_of_a_plain_reckoning(prompt: list[int], output: list[int]) -> None:
    spec = SampleSpec(
        0,
        temperature=0.0,
        repetition_penalty=1.5,
        presence_penalty=0.25,
        frequency_penalty=0.5,
        logit_bias=LogitBias.of({2: 0.75, 5: 4.0}),
        prompt=pack(prompt),
        output=pack(output),
    )
    expected = np.array(LOGITS)
    expected[2] += 0.75
    expected[5] += 4.0
    for token in {*prompt, *output}:
        expected[token] *= 1.5 if expected[token] < 0 else 1 / 1.5
    for token in set(output):
        expected[token] -= 0.25 + 0.5 * output.count(token)
    best = np.flatnonzero(expected >= expected.max() - 1e-6)
    assert chosen(LOGITS, spec) in best
