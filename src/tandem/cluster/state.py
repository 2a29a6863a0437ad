"""The life of a node's cluster session, as one table. Pure: effects are the node's business.

    idle ─start─► pairing ─complete─► planning ─agreed─► loading ─ready─► active
      ▲              │                    │                  │              │
      └───cleared── degraded ◄──failed────┴──────────────────┴──────────────┘

The role is published in `active` and nowhere else. `degraded` is the one way out of planning,
loading and active: there everything that belongs to the session is cleared, in one place.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    IDLE = "idle"
    PAIRING = "pairing"
    PLANNING = "planning"
    LOADING = "loading"
    ACTIVE = "active"
    DEGRADED = "degraded"


class Event(StrEnum):
    START = "start"  # look for the other nodes
    COMPLETE = "complete"  # all of them are connected
    AGREED = "agreed"  # everybody has accepted the plan
    READY = "ready"  # everybody has loaded its shard
    FAILED = "failed"  # a node or a link is gone, or somebody refused
    CLEARED = "cleared"  # nothing of the session is left


_NEXT: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.START): State.PAIRING,
    (State.PAIRING, Event.COMPLETE): State.PLANNING,
    (State.PLANNING, Event.AGREED): State.LOADING,
    (State.LOADING, Event.READY): State.ACTIVE,
    (State.PAIRING, Event.FAILED): State.DEGRADED,
    (State.PLANNING, Event.FAILED): State.DEGRADED,
    (State.LOADING, Event.FAILED): State.DEGRADED,
    (State.ACTIVE, Event.FAILED): State.DEGRADED,
    (State.DEGRADED, Event.CLEARED): State.IDLE,
}


def decide(state: State, event: Event) -> State:
    """The next state. An event that a state does not know is a defect of ours."""
    following = _NEXT.get((state, event))
    assert following is not None, f"{event} cannot happen in {state}"
    return following
