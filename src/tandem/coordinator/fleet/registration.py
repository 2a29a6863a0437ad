"""What a provider may say of itself, when it joins and later: names that people can be shown."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tandem.errors import ProtocolError
from tandem.protocol import Heartbeat, Registration

_MAX_NAME_LENGTH = 256
_MAX_MODELS = 64
_MAX_ADDRESSES = 16
_MAX_MEMBERS = 256
#: Controls, ends of lines, halves of surrogates, and what turns the direction of text around: by
#: them a name moves a cursor, forges a line of a log, or looks like another name.
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def check_registration(registration: Registration) -> None:
    """Raises ProtocolError for one that makes no sense."""
    names = [model.name for model in registration.models]
    if not names or len(names) > _MAX_MODELS or len(set(names)) != len(names):
        raise ProtocolError(f"registration.models must name 1 to {_MAX_MODELS} different models")
    if len(registration.link_addresses) > _MAX_ADDRESSES:
        raise ProtocolError(f"registration.link_addresses has at most {_MAX_ADDRESSES}")
    texts = (registration.name, registration.software, *names, *registration.link_addresses)
    if not all(texts):
        raise ProtocolError(f"names in a registration have 1 to {_MAX_NAME_LENGTH} characters")
    _check_texts("a registration", texts)
    machine = registration.hardware
    _check_texts("registration.hardware", (machine.hostname, machine.platform, machine.device))
    for model in registration.models:
        described = (model.architecture, model.dtype, model.quantization or "")
        _check_texts("registration.models", described)


def check_heartbeat(beat: Heartbeat) -> None:
    """Raises ProtocolError for one that names what nobody can be shown."""
    if len(beat.members) > _MAX_MEMBERS:
        raise ProtocolError(f"heartbeat.members has at most {_MAX_MEMBERS}")
    _check_texts("a heartbeat", (beat.device, *beat.members))


def _check_texts(where: str, texts: Iterable[str]) -> None:
    for text in texts:
        if len(text) > _MAX_NAME_LENGTH:
            raise ProtocolError(f"names in {where} have at most {_MAX_NAME_LENGTH} characters")
        if _UNSHOWABLE.search(text):
            raise ProtocolError(
                f"names in {where} have no control characters, and none that turn text around:"
                f" {text[:64]!a}"
            )
