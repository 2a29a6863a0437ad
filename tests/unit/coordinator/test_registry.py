"""Reservations and listings agree, whatever providers do: there is one eligibility function."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tandem import protocol
from tandem.coordinator.provider import Provider
from tandem.coordinator.registry import Registry, Reservation
from tandem.coordinator.routing import Eligible, Ineligible, Limits, Reason, eligibility
from tandem.errors import ModelNotFound, NoProviderAvailable, Overloaded, ProtocolError

MODELS = [protocol.ModelName(name) for name in ("a", "b", "c")]
LIMITS = Limits(stale_after_s=4.0, max_requests_per_provider=2)
HARDWARE = protocol.Hardware("host", "os", "cpu", 1, 1)


def hello(models: list[protocol.ModelName], name: str = "box") -> protocol.Hello:
    infos = [protocol.ModelInfo(model, "llama", 1, 2048, "float32") for model in models]
    return protocol.Hello([1], "join", name, "test", HARDWARE, infos)


def beat(ready: bool = True, role: object = None) -> protocol.Heartbeat:
    return protocol.Heartbeat(ready, 0, 0, 1, 1, role)


class RegistryMachine(RuleBasedStateMachine):
    """Joins, beats, drains, silences, reservations in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.registry = Registry(LIMITS, max_providers=5, clock=lambda: self.now)
        self.held: list[Reservation] = []

    @rule(models=st.lists(st.sampled_from(MODELS), min_size=1, unique=True))
    def join(self, models: list[protocol.ModelName]) -> None:
        if len(self.registry.providers) >= 5:
            with pytest.raises(Overloaded):
                self.registry.add(hello(models))
        else:
            self.registry.add(hello(models))

    @precondition(lambda self: self.registry.providers)
    @rule(
        data=st.data(), ready=st.booleans(), role=st.sampled_from([None, None, 0, 1, "x", -1, True])
    )
    def beats(self, data: st.DataObject, ready: bool, role: object) -> None:
        provider = data.draw(st.sampled_from(self.registry.providers))
        self.registry.heard(provider)
        self.registry.heartbeat(provider, beat(ready, role))

    @precondition(lambda self: self.registry.providers)
    @rule(data=st.data())
    def drains(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.registry.providers)).draining = True

    @precondition(lambda self: self.registry.providers)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        self.registry.remove(data.draw(st.sampled_from(self.registry.providers)))

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(model=st.sampled_from(MODELS))
    def reserve(self, model: protocol.ModelName) -> None:
        listed = self.registry.models()
        loads = {p.id: p.in_flight for p in self.registry.providers}
        try:
            reservation = self.registry.reserve_provider(model)
        except (ModelNotFound, Overloaded, NoProviderAvailable):
            assert model not in listed
            return
        chosen = reservation.provider
        self.held.append(reservation)
        assert model in listed
        assert chosen.role.rank in (None, 0)
        assert not chosen.draining
        candidates = [
            p for p in self.registry.providers if p is not chosen and self._eligible(p, model)
        ]
        assert all(loads[chosen.id] <= loads[p.id] for p in candidates)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), twice=st.booleans())
    def release(self, data: st.DataObject, twice: bool) -> None:
        reservation = data.draw(st.sampled_from(self.held))
        self.held.remove(reservation)
        reservation.release()
        if twice:
            reservation.release()

    def _eligible(self, provider: Provider, model: protocol.ModelName) -> bool:
        answer = eligibility(provider, model, now=self.now, limits=LIMITS)
        return isinstance(answer, Eligible)

    @invariant()
    def requests_in_flight_are_the_reservations_held(self) -> None:
        for provider in self.registry.providers:
            held = sum(reservation.provider is provider for reservation in self.held)
            assert provider.in_flight == held <= LIMITS.max_requests_per_provider

    @invariant()
    def listings_count_the_eligible(self) -> None:
        for model in MODELS:
            count = sum(self._eligible(p, model) for p in self.registry.providers)
            assert self.registry.models().get(model, (None, 0))[1] == count


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def _provider(**changes: Any) -> Provider:  # noqa: ANN401 - any field
    registry = Registry(LIMITS, max_providers=1, clock=lambda: 0.0)
    provider = registry.add(hello([MODELS[0]]))
    registry.heartbeat(provider, beat())
    for field, value in changes.items():
        setattr(provider, field, value)
    return provider


@pytest.mark.parametrize(
    ("changes", "now", "model", "reason"),
    [
        ({}, 0.0, "b", Reason.OTHER_MODELS),
        ({"load": None}, 0.0, "a", Reason.NOT_READY),
        ({"load": beat(ready=False)}, 0.0, "a", Reason.NOT_READY),
        ({"draining": True}, 0.0, "a", Reason.DRAINING),
        ({}, 4.1, "a", Reason.STALE),
        ({"in_flight": 2}, 0.0, "a", Reason.FULL),
    ],
)
def test_every_refusal_has_its_reason(
    changes: dict[str, Any], now: float, model: str, reason: Reason
) -> None:
    provider = _provider(**changes)
    answer = eligibility(provider, protocol.ModelName(model), now=now, limits=LIMITS)
    assert answer == Ineligible(reason)


def test_unknown_busy_and_absent_models_are_different_errors() -> None:
    registry = Registry(LIMITS, max_providers=5, clock=lambda: 0.0)
    with pytest.raises(ModelNotFound):
        registry.reserve_provider(MODELS[0])
    provider = registry.add(hello([MODELS[0]]))
    with pytest.raises(NoProviderAvailable):
        registry.reserve_provider(MODELS[0])
    registry.heartbeat(provider, beat())
    for _ in range(2):
        registry.reserve_provider(MODELS[0])
    with pytest.raises(Overloaded):
        registry.reserve_provider(MODELS[0])
    registry.remove(provider)
    with pytest.raises(NoProviderAvailable):
        registry.reserve_provider(MODELS[0])


@pytest.mark.parametrize(
    "bad",
    [
        hello([]),
        hello([MODELS[0], MODELS[0]]),
        hello([MODELS[0]], name=""),
        hello([MODELS[0]], "x" * 300),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(bad: protocol.Hello) -> None:
    with pytest.raises(ProtocolError):
        Registry(LIMITS, max_providers=1).add(bad)
