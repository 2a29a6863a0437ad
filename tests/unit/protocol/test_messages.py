"""Every message as bytes: golden ones, those of the other direction, and arbitrary ones."""

from __future__ import annotations

import typing
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tandem import protocol
from tandem.errors import ProtocolError
from tandem.protocol import ToCoordinator, ToProvider
from tandem.protocol.cluster import ToNode, ToRank

RID = protocol.RequestId("r1")
HARDWARE = protocol.Hardware("host", "linux", "cpu", 2, 1024)
MODEL = protocol.ModelInfo(protocol.ModelName("m"), "llama", 5, 2048, "float32")

TO_COORDINATOR: dict[str, ToCoordinator] = {
    "hello": protocol.Hello([2], "join", b"registration"),
    "proof": protocol.Proof(
        protocol.Evidence(b"s", protocol.ChainEvidence([b"c"], "device", b"t"))
    ),
    "heartbeat": protocol.Heartbeat(
        True, 1, 2, 3, 4, cluster_role=protocol.cluster_role(1), members=["n"]
    ),
    "reply": protocol.Reply(RID, b"sealed"),
    "unreadable": protocol.Unreadable(RID),
    "draining": protocol.Draining(),
}
TO_PROVIDER: dict[str, ToProvider] = {
    "challenge": protocol.Challenge(b"nonce"),
    "welcome": protocol.Welcome(1, protocol.ProviderId("p"), 1.0),
    "refused": protocol.Refused(protocol.ErrorInfo("protocol_error", "no", "x")),
    "request": protocol.Request(RID, 3, protocol.ModelName("m"), 2.0, 32, b"sealed"),
    "next_key": protocol.NextKey(b"sealed"),
    "grant": protocol.Grant(RID, 5),
    "cancel": protocol.Cancel(RID),
}
#: What travels inside of others.
INNER: dict[str, protocol.Registration | protocol.Work | protocol.AnswerPart] = {
    "registration": protocol.Registration(
        "box", "tandem/1", HARDWARE, [MODEL], b"key", b"der", ["h:1"]
    ),
    "generate": protocol.Generate(
        b"k",
        [protocol.ChatPrompt([protocol.ChatMessage("user", "hi")]), protocol.TokenPrompt([1])],
        1,
        protocol.Sampling(temperature=0.5),
        [[1, 2], None],
    ),
    "embed": protocol.Embed(b"k", [protocol.TextPrompt("hi")]),
    "chunk": protocol.Chunk([protocol.Delta(0, "é", [7], None, protocol.FinishReason.STOP)], 12),
    "finished": protocol.Finished(protocol.Usage(1, 2, 3), protocol.Timings(1.0, 2.0, 3.0, 4.0)),
    "failed": protocol.Failed(protocol.ErrorInfo("overloaded", "busy")),
}
GOLDEN = {
    "heartbeat": (
        "88a474797065a9686561727462656174a57265616479c3a772756e6e696e6701a777616974696e6702"
        "ab667265655f626c6f636b7303ac746f74616c5f626c6f636b7304ac636c75737465725f726f6c6501"
        "a76d656d6265727391a16e"
    ),
    "chunk": (
        "83a474797065a56368756e6ba664656c746173919500a2c3a99107c0a473746f70"
        "ad70726f6d70745f746f6b656e730c"
    ),
    "finished": (
        "83a474797065a866696e6973686564a5757361676583ad70726f6d70745f746f6b656e7301"
        "b1636f6d706c6574696f6e5f746f6b656e7302ad6361636865645f746f6b656e7303"
        "a673746167657394cb3ff0000000000000cb4000000000000000cb4008000000000000cb4010000000000000"
    ),
    "generate": (
        "85a97265706c795f6b6579c4016ba770726f6d7074739282a474797065a463686174a86d65737361676573"
        "9183a4726f6c65a475736572a7636f6e74656e74a26869a46e616d65c0"
        "82a474797065a6746f6b656e73a9746f6b656e5f6964739101a16e01a873616d706c696e67"
        "81ab74656d7065726174757265cb3fe0000000000000a870726f647563656492920102c0"
    ),
    "reply": "83a474797065a57265706c79aa726571756573745f6964a27231a67365616c6564c4067365616c6564",
    "challenge": "82a474797065a96368616c6c656e6765a56e6f6e6365c4056e6f6e6365",
    "request": (
        "87a474797065a772657175657374aa726571756573745f6964a27231a66e756d62657203a56d6f64656ca16d"
        "aa646561646c696e655f73cb4000000000000000a677696e646f7720a67365616c6564c4067365616c6564"
    ),
    "draining": "81a474797065a8647261696e696e67",
    "grant": "83a474797065a56772616e74aa726571756573745f6964a27231a66368756e6b7305",
    "cancel": "82a474797065a663616e63656caa726571756573745f6964a27231",
    "welcome": (
        "84a474797065a777656c636f6d65a776657273696f6e01ab70726f76696465725f6964a170"
        "b46865617274626561745f696e74657276616c5f73cb3ff0000000000000"
    ),
}


def test_a_heartbeats_device_is_a_field_more() -> None:
    beat = TO_COORDINATOR["heartbeat"]
    frame = protocol.encode(msgspec.structs.replace(beat, device="cuda:0"))
    assert frame.hex() == "89" + GOLDEN["heartbeat"][2:] + "a6646576696365a6637564613a30"


def test_a_models_longest_token_is_a_field_more() -> None:
    plain = msgspec.msgpack.encode(MODEL)
    more = msgspec.msgpack.encode(msgspec.structs.replace(MODEL, max_token_bytes=9))
    assert more == bytes([plain[0] + 1]) + plain[1:] + b"\xafmax_token_bytes\x09"
    assert msgspec.msgpack.decode(plain, type=protocol.ModelInfo) == MODEL


def test_a_cache_scope_is_a_field_more_which_old_providers_pass_over() -> None:
    work = INNER["generate"]
    frame = protocol.encode(msgspec.structs.replace(work, cache_scope=b"ab"))
    assert frame.hex() == "86" + GOLDEN["generate"][2:] + "ab63616368655f73636f7065c4026162"


def test_defaults_of_the_model_are_a_field_more_which_old_providers_pass_over() -> None:
    work = protocol.Generate(b"", [], 1, protocol.Sampling(temperature=1.0, model_defaults=True))
    sampling = msgspec.msgpack.decode(protocol.encode(work))["sampling"]
    assert sampling == {"temperature": 1.0, "model_defaults": True}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_bytes(name: str) -> None:
    message = (TO_COORDINATOR | TO_PROVIDER | INNER)[name]
    assert protocol.encode(message).hex() == GOLDEN[name]


@pytest.mark.parametrize("name", TO_COORDINATOR)
def test_a_message_for_the_coordinator_decodes_there_and_nowhere_else(name: str) -> None:
    frame = protocol.encode(TO_COORDINATOR[name])
    assert protocol.decode_to_coordinator(frame) == TO_COORDINATOR[name]
    with pytest.raises(ProtocolError):
        protocol.decode_to_provider(frame)


@pytest.mark.parametrize("name", TO_PROVIDER)
def test_a_message_for_the_provider_decodes_there_and_nowhere_else(name: str) -> None:
    frame = protocol.encode(TO_PROVIDER[name])
    assert protocol.decode_to_provider(frame) == TO_PROVIDER[name]
    with pytest.raises(ProtocolError):
        protocol.decode_to_coordinator(frame)


@pytest.mark.parametrize("name", INNER)
def test_what_travels_inside_comes_back(name: str) -> None:
    message = INNER[name]
    frame = protocol.encode(message)
    if isinstance(message, protocol.Registration):
        assert protocol.decode_registration(frame) == message
    elif isinstance(message, protocol.Work):
        assert protocol.decode_work(frame) == message
    else:
        assert protocol.decode_answer_part(frame) == message


_PROMPTS = st.one_of(
    st.builds(protocol.TextPrompt, st.text()),
    st.builds(protocol.TokenPrompt, st.lists(st.integers(0, 2**31))),
    st.builds(
        protocol.ChatPrompt,
        st.lists(st.builds(protocol.ChatMessage, st.text(), st.text(), st.none() | st.text())),
    ),
)
_PRODUCED = st.lists(st.none() | st.lists(st.integers(0, 2**31)))
_SAMPLING = st.builds(
    protocol.Sampling,
    max_tokens=st.none() | st.integers(1, 2**31),
    temperature=st.floats(0.0, 2.0),
    logit_bias=st.dictionaries(st.integers(0, 2**31), st.floats(-100.0, 100.0)),
    seed=st.none() | st.integers(-(2**63), 2**63 - 1),
    stop=st.lists(st.text()),
)


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.builds(
            protocol.Generate,
            st.binary(),
            st.lists(_PROMPTS),
            st.integers(1, 128),
            _SAMPLING,
            _PRODUCED,
        ),
        st.builds(protocol.Embed, st.binary(), st.lists(_PROMPTS)),
    )
)
def test_work_of_either_kind_comes_back(work: protocol.Work) -> None:
    assert protocol.decode_work(protocol.encode(work)) == work


def test_work_says_its_kind_and_without_one_it_is_to_generate() -> None:
    embed = msgspec.msgpack.decode(protocol.encode(INNER["embed"]))
    assert embed["type"] == "embed"
    assert "type" not in msgspec.msgpack.decode(protocol.encode(INNER["generate"]))


@pytest.mark.parametrize(
    "content",
    [{"type": "paint", "reply_key": b"k"}, {"type": 7}, {"type": "embed"}, {"reply_key": b"k"}, 7],
)
def test_other_work_is_a_protocol_error(content: object) -> None:
    with pytest.raises(ProtocolError):
        protocol.decode_work(msgspec.msgpack.encode(content))


def test_unknown_fields_are_ignored() -> None:
    newer = {"type": "grant", "request_id": "r1", "chunks": 5, "colour": "blue"}
    assert protocol.decode_to_provider(msgspec.msgpack.encode(newer)) == TO_PROVIDER["grant"]


@pytest.mark.parametrize("union", [ToCoordinator, ToProvider, ToNode, ToRank])
def test_every_message_has_a_name_of_its_own(union: object) -> None:
    tags = [kind.__struct_config__.tag for kind in typing.get_args(union)]
    assert len(set(tags)) == len(tags)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_at_worst_a_protocol_error(frame: bytes) -> None:
    decoders = (protocol.decode_to_coordinator, protocol.decode_to_provider, protocol.decode_work)
    for decode in decoders:
        try:
            decode(frame)
        except ProtocolError:
            continue


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*TO_COORDINATOR.values()]), st.integers(0, 300), st.integers(0, 255))
def test_a_changed_byte_is_at_worst_a_protocol_error(
    message: ToCoordinator, position: int, byte: int
) -> None:
    frame = bytearray(protocol.encode(message))
    frame[position % len(frame)] = byte
    try:
        protocol.decode_to_coordinator(bytes(frame))
    except ProtocolError:
        return


_LONG = "x" * 20_000


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("hello", "versions", [2] * 65),
        ("hello", "join_token", _LONG),
        ("hello", "registration", b"r" * protocol.MAX_NOTICE_BYTES),
        ("proof", "evidence", {"signature": b"s" * 5000}),
        ("heartbeat", "members", ["n"] * 257),
        ("heartbeat", "members", [_LONG]),
        ("heartbeat", "counters", {str(n): n for n in range(257)}),
        ("heartbeat", "counters", {"n": -1}),
        ("heartbeat", "counters", {"n": 2**63}),
        ("heartbeat", "running", -1),
        ("heartbeat", "total_blocks", 2**60),
        ("heartbeat", "device", _LONG),
        ("heartbeat", "cluster_role", [{}] * protocol.MAX_NOTICE_BYTES),
        ("reply", "request_id", _LONG),
        ("draining", "unknown", "x" * protocol.MAX_NOTICE_BYTES),
    ],
)
def test_whatever_a_provider_says_has_a_bound(kind: str, field: str, value: object) -> None:
    told = msgspec.msgpack.decode(protocol.encode(TO_COORDINATOR[kind]))
    frame = msgspec.msgpack.encode(told | {field: value})
    decoders: dict[str, Callable[[bytes], object]] = {
        "hello": protocol.decode_hello,
        "proof": protocol.decode_proof,
    }
    with pytest.raises(ProtocolError):
        decoders.get(kind, protocol.decode_to_coordinator)(frame)


def test_a_reply_may_be_large_but_has_a_bound_too() -> None:
    sealed = b"s" * (protocol.MAX_REPLY_BYTES - 100)
    reply = protocol.Reply(RID, sealed)
    assert protocol.decode_to_coordinator(protocol.encode(reply)) == reply
    with pytest.raises(ProtocolError, match="more than"):
        protocol.decode_to_coordinator(protocol.encode(protocol.Reply(RID, sealed + b"s" * 100)))


def test_a_role_stays_encoded_whatever_is_in_it() -> None:
    told = msgspec.msgpack.decode(protocol.encode(TO_COORDINATOR["heartbeat"]))
    frame = msgspec.msgpack.encode(told | {"cluster_role": [{}] * 1000})
    beat = protocol.decode_to_coordinator(frame)
    assert isinstance(beat, protocol.Heartbeat)
    assert isinstance(beat.cluster_role, msgspec.Raw)
    assert protocol.cluster_role(None) == protocol.Heartbeat(True, 1, 2, 3, 4).cluster_role


@pytest.mark.parametrize("name", TO_COORDINATOR)
def test_before_the_welcome_nothing_is_decoded_but_what_is_due(name: str) -> None:
    frame = protocol.encode(TO_COORDINATOR[name])
    for due, decode in (("hello", protocol.decode_hello), ("proof", protocol.decode_proof)):
        if name == due:
            assert decode(frame) == TO_COORDINATOR[name]
        else:
            with pytest.raises(ProtocolError, match=f"not a {due}"):
                decode(frame)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("models", [msgspec.to_builtins(MODEL)] * 65),
        ("link_addresses", ["h:1"] * 17),
        ("certificate", b"c" * 20_000),
        ("name", _LONG),
    ],
)
def test_a_registration_has_bounds(field: str, value: object) -> None:
    told = msgspec.msgpack.decode(protocol.encode(INNER["registration"]))
    with pytest.raises(ProtocolError, match=field):
        protocol.decode_registration(msgspec.msgpack.encode(told | {field: value}))


def test_the_highest_common_version_is_chosen() -> None:
    assert protocol.choose_version([2, 99]) == 2
    with pytest.raises(ProtocolError, match=r"offers 7, 8.*speak 2"):
        protocol.choose_version([7, 8])


def test_an_error_survives_the_wire() -> None:
    info = protocol.ErrorInfo("context_length_exceeded", "too long", "messages")
    error = info.to_error()
    assert (error.status, error.code, error.param) == (400, info.code, "messages")
    assert protocol.ErrorInfo.of(error) == info
    assert protocol.ErrorInfo("of a later version", "?").to_error().status == 500


_ANSWERS = st.one_of(
    st.builds(
        protocol.Chunk,
        st.lists(
            st.builds(protocol.Delta, st.integers(0, 99), st.text(), st.lists(st.integers(0, 9**9)))
        ),
        st.integers(0, 2**31),
    ),
    st.builds(
        protocol.Finished,
        st.builds(protocol.Usage, *[st.integers(0, 2**31)] * 3),
        st.none() | st.builds(protocol.Timings, *[st.floats(0.0, 2e9)] * 4),
    ),
    st.builds(protocol.Failed, st.builds(protocol.ErrorInfo, st.text(), st.text(), st.text())),
)


@given(_ANSWERS)
def test_what_is_padded_decodes_as_it_does_without(part: protocol.AnswerPart) -> None:
    padded = protocol.encode_padded(part)
    assert protocol.decode_answer_part(padded) == protocol.decode_answer_part(protocol.encode(part))
    assert len(padded) == protocol.padded_size(len(padded))
    # Nothing is changed but the count of fields, and what follows: as old receivers read it.
    plain = protocol.encode(part)
    assert padded[1 : len(plain)] == plain[1:]
    fields = msgspec.msgpack.decode(padded)
    assert not any(fields.pop("padding"))
    assert fields == msgspec.msgpack.decode(plain)


@given(st.lists(_PROMPTS, max_size=3), _SAMPLING, _PRODUCED)
def test_padded_work_decodes_as_it_does_without(
    prompts: list[protocol.Prompt], sampling: protocol.Sampling, produced: list[list[int] | None]
) -> None:
    for work in (
        protocol.Generate(b"k", prompts, 1, sampling, produced, cache_scope=b"s"),
        protocol.Embed(b"k", prompts),
    ):
        padded = protocol.encode_padded(work)
        assert protocol.decode_work(padded) == work
        assert len(padded) == protocol.padded_size(len(padded))


def test_a_token_has_the_size_of_any_other_and_of_the_end() -> None:
    token = "a token of 23 bytes, no"
    parts: list[protocol.AnswerPart] = [
        protocol.Chunk([protocol.Delta(0, token[:size], [10**size % 2**31])], first)
        for size in range(1, 24)
        for first in (0, 2**20)
    ]
    parts.append(INNER["finished"])  # type: ignore[arg-type]
    parts.append(INNER["failed"])  # type: ignore[arg-type]
    assert {len(protocol.encode_padded(part)) for part in parts} == {256}


@given(st.integers(1, 2**27))
def test_a_padded_size_tells_little_and_costs_little(size: int) -> None:
    padded = protocol.padded_size(size)
    assert size <= padded
    assert padded - size < max(256, size / 8 + 1)
    assert protocol.padded_size(padded) == padded
    assert padded % 256 == 0
    # Of each power of two eight sizes are told.
    assert padded.bit_length() <= 8 or padded & ((1 << max(0, padded.bit_length() - 5)) - 1) == 0
