"""Messages between coordinator and provider, as msgspec structs. No I/O.

The numbered sequence on the WebSocket `/v1/providers/connect` (one MessagePack message a frame):

    1. provider    → Hello        versions, join token, hardware, models
    2. coordinator → Welcome      the version chosen, provider id, heartbeat interval
                   | Refused      code and reason; the socket is closed
    3. provider    → Heartbeat    at once, then every interval, and whenever readiness changes
    4. coordinator → Generate     one request; the provider answers on the same request id with
       provider    → Chunk*       numbered from 0, at most `window` of them not yet granted back
                   → Finished | Failed
    5. coordinator → Grant        the consumer took n chunks: n more may be sent
                   | Cancel       nobody is waiting any more; no answer is expected
    6. provider    → Draining     no new requests; those under way are finished

Struct unions are by receiver, so that a message going the wrong way does not decode.
"""

from __future__ import annotations

from tandem.protocol.codec import (
    MAX_MESSAGE_BYTES,
    decode_to_coordinator,
    decode_to_provider,
    encode,
)
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
)
from tandem.protocol.to_coordinator import (
    Chunk,
    Delta,
    Draining,
    Failed,
    Finished,
    Heartbeat,
    Hello,
    ToCoordinator,
    join_deltas,
)
from tandem.protocol.to_provider import Cancel, Generate, Grant, Refused, ToProvider, Welcome
from tandem.protocol.version import SUPPORTED_VERSIONS, choose_version

__all__ = [
    "MAX_MESSAGE_BYTES",
    "SUPPORTED_VERSIONS",
    "Cancel",
    "ChatMessage",
    "ChatPrompt",
    "Chunk",
    "Delta",
    "Draining",
    "ErrorInfo",
    "Failed",
    "FinishReason",
    "Finished",
    "Generate",
    "Grant",
    "Hardware",
    "Heartbeat",
    "Hello",
    "ModelInfo",
    "ModelName",
    "Prompt",
    "ProviderId",
    "Refused",
    "RequestId",
    "Sampling",
    "TextPrompt",
    "ToCoordinator",
    "ToProvider",
    "TokenLogprob",
    "TokenPrompt",
    "TopLogprob",
    "Usage",
    "Welcome",
    "choose_version",
    "decode_to_coordinator",
    "decode_to_provider",
    "encode",
    "join_deltas",
]
