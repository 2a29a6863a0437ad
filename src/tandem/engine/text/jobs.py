"""What a tokenising process is asked and answers, and how that crosses a pipe.

A frame is its length (4 bytes, big-endian) and MessagePack.
"""

from __future__ import annotations

from array import array

import msgspec

from tandem.engine.text.chat_template import Message
from tandem.errors import TandemError, error_from_code

#: Of a frame's length.
HEADER_BYTES = 4
#: What a message costs a template even without text, in characters.
_MESSAGE_SIZE = 64


class Job(msgspec.Struct, frozen=True):
    """Texts and conversations of one request, of `most_tokens` each at most."""

    prompts: list[str | list[Message]]
    most_tokens: int

    @property
    def size(self) -> int:
        """What it costs to render and tokenise, in characters of text."""
        return sum(map(_size, self.prompts))

    @property
    def most_answer_bytes(self) -> int:
        return len(self.prompts) * self.most_tokens * array("I").itemsize


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The tokenizer is loaded: the first answer of a process."""


class Tokenised(msgspec.Struct, frozen=True, tag="tokenised"):
    """The ids of each prompt, as 32-bit numbers of this machine."""

    ids: list[bytes]

    @classmethod
    def of(cls, prompts: list[list[int]]) -> Tokenised:
        return cls([array("I", ids).tobytes() for ids in prompts])

    def prompts(self) -> list[list[int]]:
        return [array("I", ids).tolist() for ids in self.ids]


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """A `TandemError`; `defect` names what was raised where none was expected."""

    code: str
    message: str
    param: str | None = None
    defect: str | None = None

    def to_error(self) -> TandemError:
        return error_from_code(self.code, self.message, self.param)


Answer = Ready | Tokenised | Refused

_encoder = msgspec.msgpack.Encoder()
decode_job = msgspec.msgpack.Decoder(Job).decode
_answers: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)
decode_answer = _answers.decode


def _size(prompt: str | list[Message]) -> int:
    if isinstance(prompt, str):
        return len(prompt)
    return sum(len(message.content) + _MESSAGE_SIZE for message in prompt)


def frame(message: Job | Answer) -> bytes:
    content = _encoder.encode(message)
    return len(content).to_bytes(HEADER_BYTES, "big") + content
