"""What a provider may say of itself when it joins."""

from __future__ import annotations

from tandem.errors import ProtocolError
from tandem.protocol import Registration

_MAX_NAME_LENGTH = 256
_MAX_MODELS = 64
_MAX_ADDRESSES = 16


def check_registration(registration: Registration) -> None:
    """Raises ProtocolError for one that makes no sense."""
    names = [model.name for model in registration.models]
    if not names or len(names) > _MAX_MODELS or len(set(names)) != len(names):
        raise ProtocolError(f"registration.models must name 1 to {_MAX_MODELS} different models")
    if len(registration.link_addresses) > _MAX_ADDRESSES:
        raise ProtocolError(f"registration.link_addresses has at most {_MAX_ADDRESSES}")
    texts = (registration.name, registration.software, *names, *registration.link_addresses)
    for text in texts:
        if not 0 < len(text) <= _MAX_NAME_LENGTH:
            raise ProtocolError(f"names in a registration have 1 to {_MAX_NAME_LENGTH} characters")
