"""The states of a session, and the one way out of each."""

from __future__ import annotations

import itertools

from tandem.cluster.state import Event, State, decide


def test_a_role_can_only_be_left_through_degraded() -> None:
    """B16: every way out of planning, loading and active is the one that clears the session."""
    allowed = {}
    for state, event in itertools.product(State, Event):
        try:
            allowed[state, event] = decide(state, event)
        except AssertionError:
            continue
    for state in (State.PLANNING, State.LOADING, State.ACTIVE):
        ways = {following for (source, _), following in allowed.items() if source is state}
        assert ways - {State.LOADING, State.ACTIVE} == {State.DEGRADED}
    assert {s for (s, _), f in allowed.items() if f is State.ACTIVE} == {State.LOADING}
    assert allowed[State.DEGRADED, Event.CLEARED] is State.IDLE
