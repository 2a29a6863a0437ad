"""What crosses between processes, as msgspec structs. No I/O.

`provider` has the messages between coordinator and provider, `cluster` those between the machines
of a cluster, and `machines` the bodies by which the API tells of machines.

The numbered sequence on the WebSocket `/v1/providers/connect` (one MessagePack message a frame):

    1. provider    → Hello        versions, join token, registration (identity, models, sealing key)
    2. coordinator → Challenge    a nonce
       provider    → Proof        signatures over nonce and registration
    3. coordinator → Welcome      the version chosen, provider id, heartbeat interval
                   | Refused      code and reason; the socket is closed
    4. provider    → Heartbeat    at once, then every interval, and whenever readiness changes
    5. coordinator → Request      sealed: `Generate` or `Embed`; the answer comes on the same id
       provider    → Reply*       sealed: `Chunk`s, at most `window` of them not yet granted back,
                                  then `Finished` or `Failed`
                   | Unreadable   the request did not open
       coordinator → NextKey      a hint: the key that the next request is sealed with
    6. coordinator → Grant        the consumer took n chunks: n more may be sent
                   | Cancel       nobody is waiting any more; no answer is expected
    7. coordinator → Challenge    again from time to time; the provider answers with a Proof
    8. provider    → Draining     no new requests; those under way are finished

Struct unions are by receiver, so that a message going the wrong way does not decode. The provider's
end of the sequence is `ProviderSide`, a state machine without I/O.
"""

from __future__ import annotations

from tandem.protocol.attestation import NONCE_BYTES, ChainEvidence, Evidence, Trust, statement
from tandem.protocol.bounds import MAX_TOKEN_BYTES
from tandem.protocol.common import (
    ChatMessage,
    ChatPrompt,
    ErrorInfo,
    FinishReason,
    Hardware,
    ModelInfo,
    ModelName,
    Prompt,
    ProviderId,
    RequestId,
    Sampling,
    TextPrompt,
    TokenLogprob,
    TokenPrompt,
    TopLogprob,
    Usage,
    field_of,
)
from tandem.protocol.machines import (
    ClusterPeer,
    ClusterPeers,
    Machine,
    Machines,
    ProviderStatus,
    ProviderStatuses,
)
from tandem.protocol.padding import padded_size
from tandem.protocol.provider.codec import (
    MAX_MESSAGE_BYTES,
    MAX_NOTICE_BYTES,
    MAX_REPLY_BYTES,
    decode_answer_part,
    decode_hello,
    decode_proof,
    decode_registration,
    decode_to_coordinator,
    decode_to_provider,
    decode_work,
    encode,
    encode_padded,
)
from tandem.protocol.provider.flow import ReceiveWindow, SendWindow
from tandem.protocol.provider.provider_side import (
    Asked,
    ProviderEvent,
    ProviderSide,
    Unopened,
)
from tandem.protocol.provider.sealed import (
    AnswerPart,
    Chunk,
    Delta,
    Embed,
    Failed,
    Finished,
    Generate,
    Timings,
    Work,
    join_deltas,
)
from tandem.protocol.provider.to_coordinator import (
    Draining,
    Heartbeat,
    Hello,
    Proof,
    Registration,
    Reply,
    ToCoordinator,
    Unreadable,
    cluster_role,
)
from tandem.protocol.provider.to_provider import (
    Cancel,
    Challenge,
    Grant,
    NextKey,
    Refused,
    Request,
    ToProvider,
    Welcome,
)
from tandem.protocol.version import CONNECT_PATH, SUPPORTED_VERSIONS, choose_version

__all__ = [
    "CONNECT_PATH",
    "MAX_MESSAGE_BYTES",
    "MAX_NOTICE_BYTES",
    "MAX_REPLY_BYTES",
    "MAX_TOKEN_BYTES",
    "NONCE_BYTES",
    "SUPPORTED_VERSIONS",
    "AnswerPart",
    "Asked",
    "Cancel",
    "ChainEvidence",
    "Challenge",
    "ChatMessage",
    "ChatPrompt",
    "Chunk",
    "ClusterPeer",
    "ClusterPeers",
    "Delta",
    "Draining",
    "Embed",
    "ErrorInfo",
    "Evidence",
    "Failed",
    "FinishReason",
    "Finished",
    "Generate",
    "Grant",
    "Hardware",
    "Heartbeat",
    "Hello",
    "Machine",
    "Machines",
    "ModelInfo",
    "ModelName",
    "NextKey",
    "Prompt",
    "Proof",
    "ProviderEvent",
    "ProviderId",
    "ProviderSide",
    "ProviderStatus",
    "ProviderStatuses",
    "ReceiveWindow",
    "Refused",
    "Registration",
    "Reply",
    "Request",
    "RequestId",
    "Sampling",
    "SendWindow",
    "TextPrompt",
    "Timings",
    "ToCoordinator",
    "ToProvider",
    "TokenLogprob",
    "TokenPrompt",
    "TopLogprob",
    "Trust",
    "Unopened",
    "Unreadable",
    "Usage",
    "Welcome",
    "Work",
    "choose_version",
    "cluster_role",
    "decode_answer_part",
    "decode_hello",
    "decode_proof",
    "decode_registration",
    "decode_to_coordinator",
    "decode_to_provider",
    "decode_work",
    "encode",
    "encode_padded",
    "field_of",
    "join_deltas",
    "padded_size",
    "statement",
]
