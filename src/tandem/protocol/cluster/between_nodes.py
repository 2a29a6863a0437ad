"""Messages between the machines of a cluster. Unknown fields are refused: both run one version.

Control (one connection a pair of nodes, after the TLS handshake):

    1. both        → PeerHello    who I am, what I have, what I want
       either      → PeerRefusal  the reason, said on both sides; the connection is closed
    2. both        → Known        listening addresses of the other nodes that I am connected to
    3. rank 0      → Invitation   once all nodes are there: a session, and the order of ranks;
                                  all open the data channels and measure them
       rank 0      → Proposal     the plan
       each other  → Agreement    or PeerRefusal
    4. each other  → Loaded       its shard is in memory
       rank 0      → Begin        everybody has loaded: steps may come
    5. both        → Ping         every second, from the hello on
       either      → Leaving      the session ends, and why

Data (one connection a pair of ranks, for one session, at the same port: ALPN tells the two kinds
apart; who dialled the control connection dials this one): `DataHello`, then `PlanHeader`,
`TensorHeader`, `ResultHeader`, each followed by raw bytes. `FailureHeader` ends a step.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from msgspec import Meta

from tandem.protocol.bounds import Count, Name, Sentence

#: Raised with every change to these messages, or to the plans and results of steps. Nodes of
#: different versions refuse each other.
CLUSTER_VERSION = 4
#: Ranks of a cluster; layers of a model that it serves, and settings of its configuration.
MAX_RANKS, MAX_LAYERS, MAX_SETTINGS = 64, 2048, 128
_A_RANK_EACH = Meta(max_length=MAX_RANKS)
#: What others divide by, or count in.
_Size = Annotated[int, Meta(ge=1, lt=2**53)]
_Speed = Annotated[float, Meta(gt=0.0, le=1e18)]
_Port = Annotated[int, Meta(ge=1, le=65535)]


class Parallelism(StrEnum):
    """What an operator asks for; `auto` leaves TP or PP to the measurements."""

    AUTO = "auto"
    TENSOR = "tp"
    PIPELINE = "pp"
    SINGLE = "single"


class Collectives(StrEnum):
    """What adds up the ranks' partial sums: the sealed link, or a library that does not encrypt."""

    SEALED = "sealed"
    GLOO = "gloo"
    NCCL = "nccl"


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag=True):
    pass


class ModelFacts(Message, frozen=True, omit_defaults=True):
    """What the plan depends on, and what has to be the same everywhere.

    `settings` are what the engine reads of the configuration, by name, as JSON or the digest of a
    longer one; `tokenizer` and `weights` are digests, the latter of samples.
    `layer_bytes` are each layer's weights, and `read_bytes` what of them one token reads, not all
    of a layer that has experts; `embedding_bytes` those of the embedding, and as many
    are the head's, which are the same ones in memory if they are `tied`. Ranks that share layers
    share what the cache keeps as well, or have all of it each unless it `kv_divides`.
    """

    name: Name
    settings: Annotated[dict[str, str], Meta(max_length=MAX_SETTINGS)]
    tokenizer: Name
    weights: Name
    kv_heads: _Size
    layer_bytes: Annotated[list[Count], Meta(min_length=1, max_length=MAX_LAYERS)]
    read_bytes: Annotated[list[Count], Meta(min_length=1, max_length=MAX_LAYERS)]
    embedding_bytes: Count
    tied: bool
    kv_bytes_per_token: _Size
    dtype: Name
    kv_divides: bool = True

    @property
    def layers(self) -> int:
        return len(self.layer_bytes)


class PeerHello(Message, frozen=True):
    """`ranks`, `rank` and `layers` are the operator's; speed is bytes of weights read a second.

    `port` is where the node listens, None for one that only dials.
    """

    version: Count
    name: Name
    incarnation: Name
    model: ModelFacts
    parallelism: Parallelism
    collectives: Collectives
    ranks: _Size
    rank: Count | None
    layers: Annotated[list[Count], _A_RANK_EACH] | None
    memory_bytes: Count
    bytes_per_s: _Speed
    port: _Port | None


class PeerRefusal(Message, frozen=True):
    reason: Sentence


class Known(Message, frozen=True):
    addresses: Annotated[list[tuple[Name, _Port]], _A_RANK_EACH]


class Invitation(Message, frozen=True):
    """`nodes` are node ids in the order of ranks.

    `store_port` is where rank 0 keeps the rendezvous of collectives that are not sealed; None
    when they are.
    """

    session_id: Name
    nodes: Annotated[list[Name], _A_RANK_EACH]
    store_port: _Port | None = None


class Part(Message, frozen=True):
    """One rank of a plan: which node, and which layers of the model it runs."""

    node_id: Name
    first_layer: Count
    end_layer: Count


class Proposal(Message, frozen=True):
    """`parts` are in the order of ranks; in a tensor-parallel plan all have every layer."""

    session_id: Name
    strategy: Parallelism
    parts: Annotated[list[Part], _A_RANK_EACH]
    kv_tokens: _Size
    block_size: _Size
    why: Sentence


class Agreement(Message, frozen=True):
    session_id: Name


class Loaded(Message, frozen=True):
    session_id: Name


class Begin(Message, frozen=True):
    session_id: Name


class Ping(Message, frozen=True):
    """A sign of life: a node that sends nothing else sends this."""


class Leaving(Message, frozen=True):
    reason: Sentence


ToNode = (
    PeerHello
    | PeerRefusal
    | Known
    | Invitation
    | Proposal
    | Agreement
    | Loaded
    | Begin
    | Ping
    | Leaving
)


class DataHello(Message, frozen=True):
    session_id: Name
    rank: Count


class PlanHeader(Message, frozen=True):
    step: Count


class TensorHeader(Message, frozen=True):
    """`number` counts the tensors of a session on this connection, in each direction."""

    step: Count
    number: Count
    dtype: Name
    shape: Annotated[list[Count], Meta(max_length=8)]


class ResultHeader(Message, frozen=True):
    step: Count


class FailureHeader(Message, frozen=True):
    code: Name
    message: Sentence


ToRank = DataHello | PlanHeader | TensorHeader | ResultHeader | FailureHeader
