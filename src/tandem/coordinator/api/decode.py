"""From the bytes of a request to its struct, or to the error that names the field."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

import msgspec

from tandem.errors import InvalidRequest

T = TypeVar("T")

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|missing required) field `(?P<field>[^`]*)`")


class RequestDecoder(Generic[T]):
    def __init__(self, kind: type[T]) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | bytearray) -> T:
        """Raises InvalidRequest whose `param` is the path of the field, e.g. `messages[0].role`."""
        try:
            request: T = self._decoder.decode(body)
        except msgspec.ValidationError as error:
            raise _invalid_field(str(error)) from None
        except msgspec.DecodeError as error:
            raise InvalidRequest(f"the body is not JSON: {error}") from None
        except UnicodeDecodeError:
            raise InvalidRequest("the body is not JSON: it is not UTF-8") from None
        except RecursionError:
            raise InvalidRequest("the body is nested too deeply") from None
        return request


def _invalid_field(message: str) -> InvalidRequest:
    """msgspec says what was expected, and where: `... - at `$.messages[0].role``."""
    found = _PATH.search(message)
    path = found["path"].replace("[...]", "") if found else ""
    what = message[: found.start()] if found else message
    field = _FIELD.search(what)
    if field:
        path = f"{path}.{field['field']}" if path else field["field"]
        known = "is not a parameter of this API" if "unknown" in what else "is required"
        return InvalidRequest(f"{path}: {known}", param=path)
    what = what[0].lower() + what[1:]
    return InvalidRequest(f"{path or 'the body'}: {what}", param=path or None)
