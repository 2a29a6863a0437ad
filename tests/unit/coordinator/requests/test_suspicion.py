"""Whether a request is what providers die of, or was only there."""

from __future__ import annotations

from tandem.coordinator.fleet.losses import Losses
from tandem.coordinator.requests.suspicion import Suspicion, Verdict
from tandem.protocol import ProviderId

A, B, C = (ProviderId(name) for name in "abc")


def struck(losses: Losses, *strikes: tuple[float, ProviderId, int]) -> Suspicion:
    """By losses at these times, of these providers, at which so many requests were being begun."""
    suspicion = Suspicion(losses, control_s=5.0)
    for at, provider, beginning in strikes:
        losses.note(provider, beginning, at)
        suspicion.strike(losses.of(provider))
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


def test_a_loss_without_it_clears_it() -> None:
    losses = Losses()
    twice = struck(losses, (10.0, A, 1), (20.0, B, 1))
    losses.note(C, 0, 23.0)
    assert twice.verdict(23.0, 99.0) is Verdict.GOES_ON
    assert not twice.alone
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_a_loss_shortly_before_clears_it_too() -> None:
    losses = Losses()
    losses.note(C, 1, 10.0)
    assert struck(losses, (35.0, A, 1), (45.0, B, 1)).verdict(99.0, 99.0) is Verdict.GOES_ON
    losses = Losses()
    losses.note(C, 1, 10.0)
    assert struck(losses, (45.0, A, 1), (55.0, B, 1)).verdict(99.0, 99.0) is Verdict.GUILTY


def test_who_had_failed_before_was_sick_already() -> None:
    losses = Losses()
    for provider in (A, B):
        losses.note(provider, 0, 10.0, fatal=False)
    assert struck(losses, (80.0, A, 1), (90.0, B, 1)).verdict(99.0, 99.0) is Verdict.GOES_ON


def test_of_failed_steps_it_takes_ten() -> None:
    losses = Losses()
    suspicion = Suspicion(losses, control_s=5.0)
    verdicts = []
    for at in range(10, 110, 10):
        losses.note(A, 1, at, fatal=False)
        suspicion.strike(losses.of(A))
        verdicts.append(suspicion.verdict(at + 5.0, 99.0))
    assert verdicts.index(Verdict.GUILTY) == 9


def test_a_token_clears_it() -> None:
    twice = struck(Losses(), (10.0, A, 1), (20.0, B, 1))
    twice.clear()
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_what_was_lost_together_was_nobodys_doing() -> None:
    losses = Losses()
    losses.note(C, 0, 9.5)
    once = struck(losses, (10.0, A, 1))
    assert not once.alone
    twice = struck(losses, (80.0, A, 1), (90.0, B, 1))
    assert twice.alone
    losses.note(C, 0, 90.5)
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON
    assert twice.alone, "the first loss still counts"


def test_what_kills_within_a_moment_is_no_power_cut() -> None:
    twice = struck(Losses(), (10.0, A, 3), (10.4, B, 1))
    assert twice.verdict(11.0, 99.0) is Verdict.HELD


def test_with_others_beside_it_nothing_is_proved() -> None:
    twice = struck(Losses(), (10.0, A, 1), (20.0, B, 2))
    assert twice.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_one_loss_is_one_strike_whoever_tells_of_it() -> None:
    losses = Losses()
    losses.note(A, 1, 10.0)
    losses.note(A, 0, 10.4)
    once = Suspicion(losses, control_s=5.0)
    for _ in range(3):
        once.strike(losses.of(A))
    assert once.providers == [A]
    once.strike(losses.of(B))
    assert once.verdict(99.0, 99.0) is Verdict.GOES_ON


def test_two_requests_of_death_do_not_clear_each_other_for_ever() -> None:
    losses = Losses()
    suspicion = Suspicion(losses, control_s=5.0)
    verdicts = []
    for at in range(10, 100, 10):
        losses.note(ProviderId(str(at)), 1, at)
        suspicion.strike(losses.of(ProviderId(str(at))))
        losses.note(C, 1, at + 3.0)
        verdicts.append(suspicion.verdict(at + 4.0, 99.0))
    assert verdicts.index(Verdict.GUILTY) == 7


def test_only_the_last_minutes_are_remembered() -> None:
    losses = Losses()
    for at in range(0, 10_000, 2):
        losses.note(ProviderId(str(at)), 0, float(at))
    assert len(losses.since(-1.0)) == 151
