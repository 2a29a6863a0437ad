"""What a reservation counts against its provider, and what is learned from its end."""

from __future__ import annotations

import pytest
from tests.support.ineligible import MODEL, ready
from tests.support.registered import make_registry

from tandem.coordinator.fleet.provider import Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.reservation import Reservation

DEMAND = Demand(MODEL, sequences=2, tokens=300, prompt_tokens=100, output_tokens=50)


class Setting:
    """A provider, a clock, and whom a release told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.provider = ready(make_registry())
        self.released: list[Provider] = []

    def reserve(self, demand: Demand = DEMAND) -> Reservation:
        return Reservation(self.provider, demand, lambda: self.now, self.released.append)

    def counts(self) -> tuple[int, int, int, int]:
        p = self.provider
        return p.in_flight, p.sequences, p.tokens, p.prefilling


def test_it_counts_until_it_is_released_which_counts_once() -> None:
    setting = Setting()
    first, second = setting.reserve(), setting.reserve()
    assert setting.counts() == (2, 4, 600, 200)
    first.release()
    first.release()
    assert setting.counts() == (1, 2, 300, 100)
    assert setting.released == [setting.provider]
    second.release()
    assert setting.counts() == (0, 0, 0, 0)


def test_its_prompt_waits_for_prefill_until_the_first_token() -> None:
    setting = Setting()
    reservation = setting.reserve()
    setting.now = 1.0
    for _ in range(3):
        reservation.saw_first_token(100)
        assert setting.counts() == (1, 2, 300, 0)
    reservation.release()
    assert setting.counts() == (0, 0, 0, 0)


def test_the_first_token_tells_how_fast_prompts_are_prefilled() -> None:
    """Those that were ahead count too: it waited for them."""
    setting = Setting()
    setting.reserve()
    reservation = setting.reserve()
    setting.now = 0.5
    reservation.saw_first_token(150)
    assert setting.provider.speed(MODEL).prefill_per_s == pytest.approx((100 + 150) / 0.5)


def test_the_end_tells_how_fast_it_decodes() -> None:
    setting = Setting()
    reservation = setting.reserve()
    reservation.saw_first_token(100)
    setting.now = 2.0
    reservation.finished(42)  # of two sequences: 20 steps each after its first token
    assert setting.provider.speed(MODEL).decode_per_s(2) == pytest.approx(10.0)


def test_one_that_ends_without_a_token_tells_nothing_of_speed() -> None:
    setting = Setting()
    before = setting.provider.speed(MODEL).decode_per_s(1)
    reservation = setting.reserve()
    setting.now = 5.0
    reservation.finished(0)
    reservation.release()
    assert setting.provider.speed(MODEL).decode_per_s(1) == before


def test_three_that_fail_set_the_provider_aside_and_one_that_answers_brings_it_back() -> None:
    setting = Setting()
    for _ in range(3):
        reservation = setting.reserve()
        reservation.failed()
        reservation.release()
    breaker = setting.provider.breaker
    assert not breaker.admits(setting.now)
    setting.now = 1.0
    assert breaker.admits(setting.now)
    probe = setting.reserve()
    assert not breaker.admits(setting.now), "one probe at a time"
    probe.release()
    assert breaker.admits(setting.now), "it told nothing: another may probe"
    setting.reserve().saw_first_token(1)
    assert not breaker.is_open


def test_an_idle_providers_engine_is_given_its_time_anew() -> None:
    setting = Setting()
    setting.now = 100.0
    first = setting.reserve()
    assert setting.provider.moved_at == 100.0
    setting.now = 101.0
    setting.reserve()
    assert setting.provider.moved_at == 100.0, "it had work already"
    first.release()
