"""Whether a request is what providers die of, or was only there."""

from __future__ import annotations

import pytest

from tandem.coordinator.fleet.losses import Loss, Losses
from tandem.coordinator.requests.suspicion import Suspicion, Verdict
from tandem.protocol import ProviderId

A, B, C = (ProviderId(name) for name in "abc")


HOUR_S = 3600.0


def suspect(losses: Losses) -> Suspicion:
    return Suspicion(losses, control_s=5.0, enough=10_000.0)


def struck(
    losses: Losses,
    *strikes: tuple[float, ProviderId, int],
    lived_s: float = HOUR_S,
    took_s: float = 0.1,
) -> Suspicion:
    """By losses at these times, of these providers, at which so many requests were being begun."""
    suspicion = suspect(losses)
    for at, provider, beginning in strikes:
        losses.note(Loss(at, provider, beginning, lived_s))
        suspicion.strike(losses.of(provider), since=at - took_s)
    return suspicion


def test_after_one_loss_it_is_begun_alone_and_after_two_it_is_held_and_given_up() -> None:
    once = struck(Losses(), (10.0, A, 3))
    assert once.alone
    assert once.verdict(10.0, 99.0) is Verdict.GOES_ON
    twice = struck(Losses(), (10.0, A, 3), (20.0, B, 1))
    assert twice.verdict(24.9, 99.0) is Verdict.HELD
    assert twice.verdict(25.0, 99.0) is Verdict.GUILTY
    assert twice.providers == [A, B]


def test_it_is_not_given_up_before_somebody_lives_without_it() -> None:
    twice = struck(Losses(), (10.0, A, 1), (20.0, B, 1))
    assert twice.verdict(1000.0, 4.9) is Verdict.HELD
    assert twice.verdict(1000.0, 5.0) is Verdict.GUILTY


def test_it_is_not_begun_again_before_somebody_lives_without_it() -> None:
    losses = Losses()
    once = struck(losses, (10.0, A, 1))
    assert once.verdict(99.0, 0.0) is Verdict.HELD
    assert once.verdict(99.0, 4.9) is Verdict.HELD
    assert once.verdict(99.0, 5.0) is Verdict.GOES_ON
    losses.note(Loss(99.0, B, 0))
    assert once.verdict(99.0, 0.0) is Verdict.GOES_ON, "they die without it"
    losses.note(Loss(200.0, C, 1, fatal=False))
    failed = suspect(losses)
    failed.strike(losses.of(C), since=199.0)
    assert failed.verdict(200.0, 0.0) is Verdict.GOES_ON, "a failed step is no death"


@pytest.mark.parametrize(
    ("lived_s", "took_s", "beginning"),
    [(60.0, 0.1, 1), (10 * 60.0, 10.0, 1), (HOUR_S, 0.1, 40)],
    ids=["short lives", "a long prompt", "many beside it"],
)
def test_two_losses_that_may_well_be_chance_are_not_enough(
    lived_s: float, took_s: float, beginning: int
) -> None:
    strikes = (10.0, A, beginning), (20.0, B, beginning)
    twice = struck(Losses(), *strikes, lived_s=lived_s, took_s=took_s)
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON
    assert twice.alone
    more = (30.0, C, beginning), (40.0, ProviderId("d"), beginning)
    often = struck(Losses(), *strikes, *more, lived_s=lived_s, took_s=took_s)
    assert often.verdict(99.0, 99.0) is Verdict.GUILTY


def test_one_loss_is_never_enough() -> None:
    once = struck(Losses(), (10.0, A, 1), lived_s=1e6)
    assert once.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_one_machine_that_was_up_for_long_dies_of_it_twice() -> None:
    losses = Losses()
    suspicion = struck(losses, (10.0, A, 1))
    losses.note(Loss(25.0, B, 1, lived_s=5.5))
    suspicion.strike(losses.of(B), since=24.5)
    assert suspicion.verdict(40.0, 6.0) is Verdict.GUILTY


def test_a_loss_without_it_clears_it() -> None:
    losses = Losses()
    twice = struck(losses, (10.0, A, 1), (20.0, B, 1))
    losses.note(Loss(23.0, C, 0))
    assert twice.verdict(23.0, 99.0) is Verdict.GOES_ON
    assert not twice.alone
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_a_loss_shortly_before_clears_it_too() -> None:
    losses = Losses()
    losses.note(Loss(10.0, C, 1))
    assert struck(losses, (35.0, A, 1), (45.0, B, 1)).verdict(99.0, 99.0) is Verdict.GOES_ON
    losses = Losses()
    losses.note(Loss(10.0, C, 1))
    assert struck(losses, (45.0, A, 1), (55.0, B, 1)).verdict(99.0, 99.0) is Verdict.GUILTY


def test_who_had_failed_before_was_sick_already() -> None:
    losses = Losses()
    for provider in (A, B):
        losses.note(Loss(10.0, provider, 0, HOUR_S, fatal=False))
    assert struck(losses, (80.0, A, 1), (90.0, B, 1)).verdict(99.0, 99.0) is Verdict.GOES_ON


def test_of_failed_steps_it_takes_ten() -> None:
    losses = Losses()
    suspicion = suspect(losses)
    verdicts = []
    for at in range(10, 110, 10):
        losses.note(Loss(at, A, 1, HOUR_S, fatal=False))
        suspicion.strike(losses.of(A), since=at - 1.0)
        verdicts.append(suspicion.verdict(at + 5.0, 99.0))
    assert verdicts.index(Verdict.GUILTY) == 9


def test_a_token_clears_it() -> None:
    twice = struck(Losses(), (10.0, A, 1), (20.0, B, 1))
    twice.clear()
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_what_was_lost_together_was_nobodys_doing() -> None:
    losses = Losses()
    losses.note(Loss(9.5, C, 0))
    once = struck(losses, (10.0, A, 1))
    assert not once.alone
    twice = struck(losses, (80.0, A, 1), (90.0, B, 1))
    assert twice.alone
    losses.note(Loss(90.5, C, 0))
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON
    assert twice.alone, "the first loss still counts"


def test_what_kills_within_a_moment_is_no_power_cut() -> None:
    twice = struck(Losses(), (10.0, A, 3), (10.4, B, 1))
    assert twice.verdict(11.0, 99.0) is Verdict.HELD


def test_one_loss_is_one_strike_whoever_tells_of_it() -> None:
    losses = Losses()
    losses.note(Loss(10.0, A, 1, HOUR_S))
    losses.note(Loss(10.4, A, 0, HOUR_S))
    once = suspect(losses)
    for _ in range(3):
        once.strike(losses.of(A), since=9.0)
    assert once.providers == [A]
    once.strike(losses.of(B), since=9.0)
    assert once.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_two_requests_of_death_do_not_clear_each_other_for_ever() -> None:
    losses = Losses()
    suspicion = suspect(losses)
    verdicts = []
    for at in range(10, 100, 10):
        losses.note(Loss(at, ProviderId(str(at)), 1, HOUR_S))
        suspicion.strike(losses.of(ProviderId(str(at))), since=at - 1.0)
        losses.note(Loss(at + 3.0, C, 1, HOUR_S))
        verdicts.append(suspicion.verdict(at + 4.0, 99.0))
    assert verdicts.index(Verdict.GUILTY) == 7


def test_no_number_of_machines_that_die_as_soon_as_they_are_up_is_too_much() -> None:
    losses = Losses()
    suspicion = suspect(losses)
    for at in range(10, 410, 10):
        losses.note(Loss(at, ProviderId(str(at)), 1, lived_s=0.9))
        suspicion.strike(losses.of(ProviderId(str(at))), since=at - 0.8)
        losses.note(Loss(at + 3.0, C, 1, lived_s=0.9))
        assert suspicion.verdict(at + 4.0, 99.0) is Verdict.GOES_ON


def test_only_the_last_minutes_are_remembered() -> None:
    losses = Losses()
    for at in range(0, 10_000, 2):
        losses.note(Loss(float(at), ProviderId(str(at)), 0))
    assert len(losses.since(-1.0)) == 151
