"""The messages between nodes, byte for byte: who changes one raises `CLUSTER_VERSION`."""

from __future__ import annotations

import typing

import msgspec
import pytest
from tests.support.members import MODEL, hello

from tandem.protocol.cluster import (
    CLUSTER_VERSION,
    Agreement,
    Begin,
    DataHello,
    FailureHeader,
    Invitation,
    Known,
    Leaving,
    Loaded,
    Parallelism,
    Part,
    PeerRefusal,
    Ping,
    PlanHeader,
    Proposal,
    ResultHeader,
    TensorHeader,
    ToNode,
    ToRank,
)

SMALL = hello(model={"layer_bytes": [1, 2], "tokenizer": "t", "weights": "w"})
TO_NODE: list[ToNode] = [
    SMALL,
    PeerRefusal("r"),
    Known([("h", 1)]),
    Invitation("s", ["n"]),
    Proposal("s", Parallelism.PIPELINE, [Part("n", 0, 2)], 32, 16, "w"),
    Agreement("s"),
    Loaded("s"),
    Begin("s"),
    Ping(),
    Leaving("r"),
]
TO_RANK: list[ToRank] = [
    DataHello("s", 1),
    PlanHeader(1),
    TensorHeader(1, 2, "float32", [3, 4]),
    ResultHeader(1),
    FailureHeader("c", "m"),
]
GOLDEN = {
    "PeerHello": (
        "8da474797065a95065657248656c6c6fa776657273696f6e04a46e616d65a46e6f6465ab696e6361726e"
        "6174696f6ea169a56d6f64656c8ca474797065aa4d6f64656c4661637473a46e616d65a16da873657474"
        "696e677381ab68696464656e5f73697a65a23634a9746f6b656e697a6572a174a777656967687473a177"
        "a86b765f686561647308ab6c617965725f6279746573920102aa726561645f6279746573920102af656d62656464696e675f6279746573ce"
        "07bfa480a474696564c2b26b765f62797465735f7065725f746f6b656ece00010000a56474797065ae62"
        "666c6f617431362f77686f6c65ab706172616c6c656c69736da46175746fab636f6c6c65637469766573"
        "a67365616c6564a572616e6b7302a472616e6bc0a66c6179657273c0ac6d656d6f72795f6279746573cf"
        "00000003b9aca000ab62797465735f7065725f73cb4202a05f20000000a4706f727401"
    ),
    "PeerRefusal": "82a474797065ab506565725265667573616ca6726561736f6ea172",
    "Known": "82a474797065a54b6e6f776ea96164647265737365739192a16801",
    "Invitation": (
        "84a474797065aa496e7669746174696f6eaa73657373696f6e5f6964a173a56e6f64657391a16eaa7374"
        "6f72655f706f7274c0"
    ),
    "Proposal": (
        "87a474797065a850726f706f73616caa73657373696f6e5f6964a173a87374726174656779a27070a570"
        "617274739184a474797065a450617274a76e6f64655f6964a16eab66697273745f6c6179657200a9656e"
        "645f6c6179657202a96b765f746f6b656e7320aa626c6f636b5f73697a6510a3776879a177"
    ),
    "Agreement": "82a474797065a941677265656d656e74aa73657373696f6e5f6964a173",
    "Loaded": "82a474797065a64c6f61646564aa73657373696f6e5f6964a173",
    "Begin": "82a474797065a5426567696eaa73657373696f6e5f6964a173",
    "Ping": "81a474797065a450696e67",
    "Leaving": "82a474797065a74c656176696e67a6726561736f6ea172",
    "DataHello": ("83a474797065a94461746148656c6c6faa73657373696f6e5f6964a173a472616e6b01"),
    "PlanHeader": "82a474797065aa506c616e486561646572a47374657001",
    "TensorHeader": (
        "85a474797065ac54656e736f72486561646572a47374657001a66e756d62657202a56474797065a7666c"
        "6f61743332a57368617065920304"
    ),
    "ResultHeader": "82a474797065ac526573756c74486561646572a47374657001",
    "FailureHeader": ("83a474797065ad4661696c757265486561646572a4636f6465a163a76d657373616765a16d"),
}


def _name(message: ToNode | ToRank) -> str:
    return type(message).__name__


@pytest.mark.parametrize("message", [*TO_NODE, *TO_RANK], ids=_name)
def test_golden_bytes_of_version_4(message: ToNode | ToRank) -> None:
    assert CLUSTER_VERSION == 4
    assert msgspec.msgpack.encode(message).hex() == GOLDEN[_name(message)]


def test_every_message_is_pinned() -> None:
    kinds = {*typing.get_args(ToNode), *typing.get_args(ToRank)}
    assert {type(message) for message in [*TO_NODE, *TO_RANK]} == kinds


@pytest.mark.parametrize(
    ("union", "messages"), [(ToNode, TO_NODE), (ToRank, TO_RANK)], ids=["node", "rank"]
)
def test_a_message_decodes_on_its_own_kind_of_connection_only(
    union: type[ToNode | ToRank], messages: list[ToNode | ToRank]
) -> None:
    for message in [*TO_NODE, *TO_RANK]:
        encoded = msgspec.msgpack.encode(message)
        if message in messages:
            assert msgspec.msgpack.decode(encoded, type=union) == message
        else:
            with pytest.raises(msgspec.ValidationError):
                msgspec.msgpack.decode(encoded, type=union)


def test_a_model_has_as_many_layers_as_costs() -> None:
    assert MODEL.layers == len(MODEL.layer_bytes)


@pytest.mark.parametrize(
    "lie",
    [
        hello(bytes_per_s=0.0),
        hello(bytes_per_s=float("nan")),
        hello(memory_bytes=-1),
        hello(ranks=0),
        hello(port=65536),
        hello(name="n" * 257),
        hello(model={"layer_bytes": []}),
        hello(model={"kv_heads": 0}),
        hello(model={"kv_bytes_per_token": 0}),
        Known([("host", 0)]),
        Known([("host", 2**63)]),
        Known([("h" * 257, 1)]),
        Proposal("s", Parallelism.TENSOR, [], 0, 16, ""),
        Proposal("s", Parallelism.TENSOR, [], 16, 0, ""),
        Invitation("s", [], -1),
    ],
    ids=repr,
)
def test_what_nobody_can_mean_is_no_message(lie: ToNode) -> None:
    """Others divide by these numbers, allocate by them, and dial these addresses."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(lie), type=ToNode)
