"""Every path that chooses, counts or lists providers agrees: there is one eligibility function."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.support.ineligible import full, ineligible
from tests.support.registered import beat, join, make_registry

from tandem import protocol
from tandem.coordinator.fleet.provider import Hold, Provider
from tandem.coordinator.routing.demand import Demand
from tandem.coordinator.routing.eligibility import Reason, eligibility
from tandem.coordinator.routing.reservation import Reservation
from tandem.errors import (
    ContextLengthExceeded,
    ModelNotFound,
    NoProviderAvailable,
    Overloaded,
    TandemError,
)
from tandem.protocol import ModelName, Trust

MODELS = [ModelName(name) for name in ("a", "b", "c")]
A = Demand(MODELS[0])


class RegistryMachine(RuleBasedStateMachine):
    """Joins, beats, drains, silences, failures, reservations in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.registry = make_registry(lambda: self.now, max_providers=5)
        self.held: list[tuple[Reservation, Demand]] = []

    @rule(models=st.lists(st.sampled_from(MODELS), min_size=1, unique=True))
    def join(self, models: list[ModelName]) -> None:
        if len(self.registry.providers) >= 5:
            with pytest.raises(Overloaded):
                join(self.registry, models)
        else:
            join(self.registry, models)

    @precondition(lambda self: self.registry.providers)
    @rule(
        data=st.data(), ready=st.booleans(), role=st.sampled_from([None, None, 0, 1, "x", -1, True])
    )
    def beats(self, data: st.DataObject, ready: bool, role: object) -> None:
        provider = self._draw(data)
        self.registry.heard(provider)
        self.registry.heartbeat(provider, beat(ready, cluster_role=role))

    @precondition(lambda self: self.registry.providers)
    @rule(data=st.data(), why=st.sampled_from([Hold.DRAINED, Hold.LEAVING]), ends=st.booleans())
    def holds(self, data: st.DataObject, why: Hold, ends: bool) -> None:
        (self.registry.lift if ends else self.registry.hold)(self._draw(data), why)

    @precondition(lambda self: self.registry.providers)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        self.registry.remove(self._draw(data))

    @rule(seconds=st.floats(0.0, 5.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        model=st.sampled_from(MODELS),
        sequences=st.integers(1, 3),
        tokens=st.sampled_from([1, 600, 1500]),
        trust=st.sampled_from([Trust.NONE, Trust.HARDWARE]),
    )
    def reserve(self, model: ModelName, sequences: int, tokens: int, trust: Trust) -> None:
        demand = Demand(model, sequences, tokens, tokens, 10, 1, trust)
        eligible = [p for p in self.registry.providers if self._eligible(p, demand)]
        aside = [p for p in self.registry.providers if self._reason(p, demand) is Reason.SET_ASIDE]
        try:
            reservation = self.registry.reserve(demand)
        except (ModelNotFound, Overloaded, NoProviderAvailable):
            assert not eligible
            assert not aside
            return
        chosen = reservation.provider
        assert chosen in (eligible or aside)
        assert chosen.role.rank in (None, 0)
        self.held.append((reservation, demand))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), how=st.sampled_from(["finished", "failed", "cancelled"]))
    def release(self, data: st.DataObject, how: str) -> None:
        entry = data.draw(st.sampled_from(self.held))
        self.held.remove(entry)
        if how == "failed":
            entry[0].failed()
        elif how == "finished":
            entry[0].saw_first_token(10)
            entry[0].finished(5)
        entry[0].release()
        entry[0].release()

    def _draw(self, data: st.DataObject) -> Provider:
        return data.draw(st.sampled_from(self.registry.providers))

    def _eligible(self, provider: Provider, demand: Demand) -> bool:
        return self._reason(provider, demand) is None

    def _reason(self, provider: Provider, demand: Demand) -> Reason | None:
        return eligibility(provider, demand, now=self.now)

    @invariant()
    def what_is_in_flight_is_what_is_held(self) -> None:
        for provider in self.registry.providers:
            held = [demand for place, demand in self.held if place.provider is provider]
            assert provider.in_flight == len(held)
            assert provider.sequences == sum(demand.sequences for demand in held)
            assert provider.tokens == sum(demand.tokens for demand in held)
            assert provider.prefilling >= 0
            assert len(held) <= 1 or provider.sequences <= 2
            assert len(held) <= 1 or provider.tokens <= 2048

    @invariant()
    def the_snapshot_is_what_a_reservation_would_find(self) -> None:
        snapshot = self.registry.capacities()
        for model in MODELS:
            demand = Demand(model)
            try:
                self.registry.select_provider(demand)
                accepted = True
            except TandemError:
                accepted = False
            assert (model in snapshot and snapshot[model].free > 0) == accepted
            reasons = [self._reason(p, demand) for p in self.registry.providers]
            routable = sum(r in (None, Reason.FULL, Reason.SET_ASIDE) for r in reasons)
            assert (snapshot[model].routable if model in snapshot else 0) == routable


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("reason", Reason)
def test_every_path_asks_for_eligibility(reason: Reason) -> None:
    """C3 to C7: choosing, reserving, checking, counting and listing agree for every reason."""
    registry, provider, demand = ineligible(reason)
    if reason is Reason.SET_ASIDE:
        # It is asked all the same when there is no other; when there is, it is not.
        assert registry.select_provider(demand) is provider
        other = join(registry, [MODELS[0]])
        registry.heartbeat(other, beat())
        assert registry.select_provider(demand) is other
        assert registry.reserve(demand).provider is other
        capacity = registry.capacities()[MODELS[0]]
        assert (capacity.routable, capacity.free) == (2, 1)
        return
    for path in (registry.select_provider, registry.reserve):
        with pytest.raises(TandemError):
            path(demand)
    assert provider.in_flight == (2 if reason is Reason.FULL else 0)
    capacity = registry.capacities()[MODELS[0]]
    of_demand = {Reason.OTHER_ACCOUNT, Reason.OTHER_MODELS, Reason.UNTRUSTED, Reason.TOO_SMALL}
    general = reason not in of_demand
    if general:  # the listings are of small requests that trust anybody
        assert capacity.free == 0
        assert capacity.routable == (1 if reason is Reason.FULL else 0)
        assert capacity.first_s is None


def test_who_may_not_use_a_machine_is_told_what_he_is_told_of_a_model_that_is_made_up() -> None:
    registry = make_registry()
    registry.heartbeat(join(registry, [MODELS[0]], account="alice"), beat())
    owners = frozenset({"bob", "carol"})

    def bobs(model: ModelName) -> Demand:
        return Demand(model, account="bob", owners=owners)

    messages = set()
    for model in MODELS:  # alice's, and nobody's
        with pytest.raises(ModelNotFound, match="tandem accounts share") as refused:
            registry.select_provider(bobs(model))
        assert "`bob`" in refused.value.message
        messages.add(refused.value.message.replace(f"`{model}`", "?"))
        assert registry.served_within_s(bobs(model)) == float("inf")
    assert len(messages) == 1
    assert registry.capacities(owners) == {}
    registry.heartbeat(join(registry, [MODELS[0]], account="carol"), beat())
    assert registry.select_provider(bobs(MODELS[0])).account == "carol"
    assert registry.capacities(owners)[MODELS[0]].routable == 1


def test_unknown_busy_and_absent_models_are_different_errors() -> None:
    registry = make_registry()
    with pytest.raises(ModelNotFound):
        registry.reserve(A)
    provider = join(registry, ["a"])
    with pytest.raises(NoProviderAvailable):
        registry.reserve(A)
    registry.heartbeat(provider, beat())
    with pytest.raises(ContextLengthExceeded):
        registry.reserve(Demand(MODELS[0], least_tokens=5000))
    # The other rank of a cluster is no reason to wait.
    registry.heartbeat(join(registry, ["a"]), beat(cluster_role=1))
    with pytest.raises(ContextLengthExceeded):
        registry.reserve(Demand(MODELS[0], least_tokens=5000))
    for _ in range(2):
        registry.reserve(A)
    with pytest.raises(Overloaded):
        registry.reserve(A)
    registry.remove(provider)
    with pytest.raises(NoProviderAvailable):
        registry.reserve(A)


def test_a_machine_that_comes_back_has_its_failures_with_it() -> None:
    registry = make_registry()
    provider = join(registry, ["a"], node_id="n1")
    registry.set_aside(provider)
    registry.remove(provider)
    assert join(registry, ["a"], node_id="n1").breaker.is_open
    assert not join(registry, ["a"], node_id="n2").breaker.is_open


def test_holds_are_set_and_lifted_each_by_itself() -> None:
    registry = make_registry()
    provider = join(registry, ["a"])
    assert provider.holds == {Hold.NOT_READY}
    registry.heartbeat(provider, beat())
    assert provider.holds == set()
    registry.hold(provider, Hold.DRAINED)
    registry.hold(provider, Hold.LEAVING)
    registry.lift(provider, Hold.DRAINED)
    assert provider.holds == {Hold.LEAVING}, "an operator cannot resume one that stops"
    registry.heartbeat(provider, beat(ready=False))
    assert provider.holds == {Hold.LEAVING, Hold.NOT_READY}


def test_every_listener_hears_of_capacity() -> None:
    """When a provider beats, is given a place back, or may have requests again."""
    registry = make_registry()
    heard: list[Provider] = []
    for _ in range(2):
        registry.on_capacity(heard.append)
    provider = join(registry, ["a"])
    both = [provider, provider]
    assert not heard
    registry.heartbeat(provider, beat())
    assert heard == both
    reservation = registry.reserve(A)
    assert heard == both
    reservation.release()
    reservation.release()
    assert heard == both * 2
    registry.lift(provider, Hold.DRAINED)
    assert heard == both * 3


def test_a_conversation_goes_back_to_where_it_was() -> None:
    registry = make_registry()
    for provider in (join(registry, ["a"]), join(registry, ["a"])):
        registry.heartbeat(provider, beat(max_sequences=8))
    messages = [protocol.ChatMessage("user", "hello " * 50)]
    first = registry.affinity.prefixes(MODELS[0], protocol.ChatPrompt(messages), "default")
    place = registry.reserve(Demand(MODELS[0], prompt_tokens=100, prefixes=first))
    messages += [protocol.ChatMessage("assistant", "hi"), protocol.ChatMessage("user", "more")]
    second = registry.affinity.prefixes(MODELS[0], protocol.ChatPrompt(messages), "default")
    place.saw_first_token(100)
    place.release()
    again = registry.select_provider(Demand(MODELS[0], prompt_tokens=110, prefixes=second))
    assert again is place.provider
    assert registry.select_provider(A) is not place.provider


def test_the_faster_provider_is_preferred_until_it_is_busy() -> None:
    now = 0.0
    registry = make_registry(lambda: now)
    slow, fast = (join(registry, ["a"]) for _ in range(2))
    for provider, rate in ((slow, 10.0), (fast, 40.0)):
        registry.heartbeat(provider, beat(max_sequences=64, total_blocks=10_000))
        provider.speed(MODELS[0]).saw_decode(rate, 1.0, 1)
    demand = Demand(MODELS[0], output_tokens=100)
    places = [registry.reserve(demand) for _ in range(40)]
    chosen = [place.provider for place in places]
    assert chosen[0] is fast
    assert chosen.count(fast) > chosen.count(slow) > 0


def test_among_many_providers_one_with_room_is_always_found() -> None:
    registry = make_registry(max_providers=500)
    providers = [join(registry, ["a"]) for _ in range(400)]
    for provider in providers:
        registry.heartbeat(provider, beat())
        full(provider)
    with pytest.raises(Overloaded):
        registry.reserve(A)
    providers[137].in_flight = providers[137].sequences = 0
    assert registry.reserve(A).provider is providers[137]
