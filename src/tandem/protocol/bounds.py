"""How large a thing may be that a peer says: types that are checked while they are decoded.

Whoever decodes a message pays for what its sender has put into it, on the event loop. So each text,
list and number of a provider's has a bound, which is far above what an honest one has to say.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

#: Of a model, a machine, a device, an address.
Name = Annotated[str, Meta(max_length=256)]
#: A reason, in words.
Sentence = Annotated[str, Meta(max_length=16_384)]
#: Ids, nonces, signatures, keys.
ShortBytes = Annotated[bytes, Meta(max_length=4096)]
#: Certificates.
LongBytes = Annotated[bytes, Meta(max_length=16_384)]
#: Of sequences, blocks, steps, tokens, bytes.
Count = Annotated[int, Meta(ge=0, lt=2**53)]
TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
#: A token as text, or as its bytes.
MAX_TOKEN_BYTES = 1024
TokenText = Annotated[str, Meta(max_length=MAX_TOKEN_BYTES)]
TokenBytes = Annotated[bytes, Meta(max_length=MAX_TOKEN_BYTES)]
#: A logarithm of a probability; what rounding makes of 1 may be above 0, no number may not.
LogProbability = Annotated[float, Meta(le=1.0)]
#: Unix time in seconds.
UnixTime = Annotated[float, Meta(ge=0.0, le=1e12)]
