"""The JSON lines on stdout by which processes say that they are up. No I/O.

`tandem coordinator --json` and `tandem provider --json` print one when they are; `tandem up`
waits for those and, with `--json`, prints its own.
"""

from __future__ import annotations

import msgspec

from tandem.protocol import ModelInfo


class Listening(msgspec.Struct, frozen=True, tag_field="event", tag="listening"):
    """The coordinator accepts connections."""

    port: int


class ProviderReady(msgspec.Struct, frozen=True, tag_field="event", tag="ready"):
    """The provider has loaded its models and the coordinator has taken it in."""

    models: list[ModelInfo]


ChildEvent = Listening | ProviderReady


class Processes(msgspec.Struct, frozen=True):
    coordinator: int
    providers: list[int]


class UpReady(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="event", tag="ready"):
    """Requests sent to `base_url` with `api_key` are answered from now on.

    `operator_key` runs the service: it sees and drains its machines. `certificate` is the file that
    clients have to trust, where the service has made its own.
    """

    base_url: str
    api_key: str
    operator_key: str
    models: list[str]
    processes: Processes
    certificate: str | None = None


_decoder: msgspec.json.Decoder[ChildEvent] = msgspec.json.Decoder(ChildEvent)


def decode_child_event(line: bytes) -> ChildEvent | None:
    """The event on a line of a child's stdout; None for a line that some library printed."""
    try:
        return _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
