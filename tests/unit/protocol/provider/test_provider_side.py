"""The provider's end of the conversation: in turn, in place, and nothing that was not asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tandem import protocol
from tandem.errors import ProtocolError
from tandem.protocol import ProviderSide, RequestId, ToCoordinator, ToProvider

NONCE = b"n" * protocol.NONCE_BYTES
MODEL = protocol.ModelName("m")
WORK = protocol.Generate(b"key", [protocol.TextPrompt("hi")], 1, protocol.Sampling())
CHALLENGE = protocol.Challenge(NONCE)
WELCOME = protocol.Welcome(2, protocol.ProviderId("p"), 1.0)
REFUSED = protocol.Refused(protocol.ErrorInfo("overloaded", "full"))
GRANT, CANCEL = protocol.Grant(RequestId("r"), 3), protocol.Cancel(RequestId("r"))
HINT = protocol.NextKey(b"hint")
BEAT = protocol.Heartbeat(True, 0, 0, 1, 1)


class KeysPlayed:
    """What is sealed is what it is sealed for, in front of what it is."""

    def __init__(self) -> None:
        self.hints: list[bytes] = []

    def prove(self, statement: bytes) -> protocol.Evidence:
        return protocol.Evidence(statement)

    def open_ahead(self, sealed_key: bytes) -> None:
        self.hints.append(sealed_key)

    def open(self, request: protocol.Request, connection: bytes) -> bytes:
        if not request.sealed.startswith(connection):
            raise ProtocolError("sealed for another connection")
        return request.sealed.removeprefix(connection)

    def replies(self, key: bytes, request_id: RequestId) -> Callable[[bytes], bytes]:
        return lambda content: key + request_id.encode() + content


class Played:
    def __init__(self, *, draining: bool = False) -> None:
        self.sent: list[ToCoordinator] = []
        self.keys = KeysPlayed()
        self.side = ProviderSide(self.keys, b"me", self.sent.append, draining=draining)

    def feed(self, *messages: ToProvider) -> list[protocol.ProviderEvent | None]:
        return [self.side.receive(message) for message in messages]


def joined(*, draining: bool = False) -> Played:
    """Greeted, proved and welcomed; what was sent until then is forgotten."""
    played = Played(draining=draining)
    played.side.greet("token")
    played.feed(CHALLENGE, WELCOME)
    played.sent.clear()
    return played


def request(
    number: int, work: protocol.Work = WORK, *, nonce: bytes = NONCE, name: str = "r"
) -> protocol.Request:
    sealed = nonce + protocol.encode(work)
    return protocol.Request(RequestId(name), number, MODEL, 60.0, 32, sealed)


def test_it_greets_proves_and_joins() -> None:
    played = Played()
    played.side.greet("token")
    assert played.sent == [protocol.Hello([2], "token", b"me")]
    assert played.feed(CHALLENGE) == [None]
    signed = protocol.statement(NONCE, b"me")
    assert played.sent[1:] == [protocol.Proof(protocol.Evidence(signed))]
    assert played.feed(WELCOME) == [WELCOME]
    played.side.beat(BEAT)
    assert played.sent[2:] == [BEAT]


@pytest.mark.parametrize("before", [[], [CHALLENGE]])
def test_a_refusal_is_its_owners_to_judge(before: list[ToProvider]) -> None:
    played = Played()
    played.side.greet("token")
    assert played.feed(*before, REFUSED)[-1] == REFUSED


def test_a_request_is_opened_and_answered_under_its_own_key() -> None:
    played = joined()
    (asked,) = played.feed(request(0))
    assert isinstance(asked, protocol.Asked)
    assert asked.work == WORK
    assert played.sent == []
    part = protocol.Finished(protocol.Usage(1, 2, 0))
    played.side.answer(asked, part)
    sealed = b"key" + b"r" + protocol.encode_padded(part)
    assert played.sent == [protocol.Reply(RequestId("r"), sealed)]


def test_a_request_to_embed_is_work_too() -> None:
    work = protocol.Embed(b"key", [protocol.TextPrompt("hi")])
    (asked,) = joined().feed(request(0, work))
    assert isinstance(asked, protocol.Asked)
    assert asked.work == work


@pytest.mark.parametrize(
    "bad",
    [request(1), request(0, nonce=b"x" * protocol.NONCE_BYTES)],
    ids=["out of place", "of another connection"],
)
def test_what_does_not_open_is_sent_back_and_told(bad: protocol.Request) -> None:
    played = joined()
    (event,) = played.feed(bad)
    assert isinstance(event, protocol.Unopened)
    assert played.sent == [protocol.Unreadable(RequestId("r"))]


def test_a_request_that_comes_again_is_not_run_again() -> None:
    played = joined()
    first, again = played.feed(request(0), request(0))
    assert isinstance(first, protocol.Asked)
    assert isinstance(again, protocol.Unopened)


def test_later_challenges_do_not_move_the_connections_place() -> None:
    played = joined()
    other = protocol.Challenge(b"o" * protocol.NONCE_BYTES)
    assert played.feed(other) == [None]
    signed = protocol.statement(other.nonce, b"me")
    assert played.sent == [protocol.Proof(protocol.Evidence(signed))]
    assert isinstance(played.feed(request(0))[0], protocol.Asked)


def test_grants_and_cancels_are_passed_on_and_hints_are_taken() -> None:
    played = joined()
    assert played.feed(GRANT, CANCEL, HINT) == [GRANT, CANCEL, None]
    assert played.keys.hints == [b"hint"]
    assert played.sent == []


def test_whoever_drains_says_so_and_refuses_what_crossed_that() -> None:
    played = joined()
    played.side.drain()
    assert played.feed(request(0)) == [None]
    played.side.beat(BEAT)
    draining, refusal, beat = played.sent
    assert draining == protocol.Draining()
    assert isinstance(refusal, protocol.Reply)
    assert b"service_stopping" in refusal.sealed
    assert isinstance(beat, protocol.Heartbeat)
    assert not beat.ready


def test_whoever_drained_before_says_so_on_joining() -> None:
    played = Played(draining=True)
    played.side.greet("token")
    played.feed(CHALLENGE)
    assert protocol.Draining() not in played.sent
    played.feed(WELCOME)
    assert played.sent[-1] == protocol.Draining()


@pytest.mark.parametrize("size", [0, protocol.NONCE_BYTES - 1, protocol.NONCE_BYTES + 1])
def test_a_challenge_has_one_length(size: int) -> None:
    """Whoever signs what it is given may be made to sign anything."""
    played = Played()
    played.side.greet("token")
    with pytest.raises(ProtocolError, match="32 bytes"):
        played.feed(protocol.Challenge(bytes(size)))


_MESSAGES = st.sampled_from([CHALLENGE, WELCOME, REFUSED, GRANT, CANCEL, HINT]) | st.builds(
    request, st.integers(0, 3), name=st.sampled_from("rst")
)
_IN_TURN: dict[str, tuple[type[ToProvider], ...]] = {
    "greeted": (protocol.Challenge, protocol.Refused),
    "proved": (protocol.Welcome, protocol.Refused),
    "joined": (
        protocol.Challenge,
        protocol.Request,
        protocol.NextKey,
        protocol.Grant,
        protocol.Cancel,
    ),
}


@given(st.lists(_MESSAGES, max_size=30), st.booleans())
def test_any_conversation_is_in_turn_or_ends(messages: list[ToProvider], draining: bool) -> None:
    """Against a model: three states, a count of requests, and one answer to each challenge."""
    played = Played(draining=draining)
    played.side.greet("token")
    state, due, proofs = "greeted", 0, 0
    for message in messages:
        if type(message) not in _IN_TURN[state]:
            with pytest.raises(ProtocolError):
                played.feed(message)
            break
        (event,) = played.feed(message)
        if isinstance(message, protocol.Challenge):
            state, proofs = ("proved" if state == "greeted" else state), proofs + 1
        elif isinstance(message, protocol.Welcome):
            state = "joined"
        elif isinstance(message, protocol.Request):
            in_place = message.number == due
            due += in_place
            assert isinstance(event, protocol.Unopened) == (not in_place)
            assert isinstance(event, protocol.Asked) == (in_place and not draining)
        elif not isinstance(message, protocol.NextKey):
            assert event == message
    assert sum(isinstance(sent, protocol.Proof) for sent in played.sent) == proofs
    assert (protocol.Draining() in played.sent) == (draining and state == "joined")
