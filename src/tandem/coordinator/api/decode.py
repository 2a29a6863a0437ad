"""From the bytes of a request to its struct, or to the error that names the field."""

from __future__ import annotations

import re
from typing import Any, Generic, TypeVar

import msgspec

from tandem.errors import InvalidRequest

T = TypeVar("T")

#: A body up to this size may hold anything: decoded it takes a few megabytes.
_SMALL_BODY = 64 * 1024
#: What one body may hold, at most: JSON texts (keys included), lists and objects, values in all.
#: Decoded, an empty list takes 26 times its bytes, and as long as a hundred of a text's.
_MAX_TEXTS = 65_536
_MAX_CONTAINERS = 16_384
_MAX_VALUES = 512 * 1024
#: Of an unknown field that an error names.
_MAX_NAME = 64

_PATH = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")
_FIELD = re.compile(r"(?:unknown|missing required) field `(?P<field>[^`]*)`")


class RequestDecoder(Generic[T]):
    def __init__(self, kind: type[T]) -> None:
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(kind)

    def decode(self, body: bytes | bytearray) -> T:
        """Raises InvalidRequest whose `param` is the path of the field, e.g. `messages[0].role`."""
        if len(body) > _SMALL_BODY:
            _check_counts(body)
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


def _check_counts(body: bytes | bytearray) -> None:
    """Raises InvalidRequest when a body has more parts than any request needs.

    Decoding holds up everything else until it ends, in memory too, and sees lengths when it is too
    late. So parts are counted before, roughly at first: what stands inside of texts counts as well.
    """
    containers = body.count(b"[") + body.count(b"{")
    commas, quotes = body.count(b","), body.count(b'"')
    if max(containers - _MAX_CONTAINERS, commas - _MAX_VALUES, quotes // 2 - _MAX_TEXTS) <= 0:
        return
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    _check_count(unescaped.count(b'"') // 2, _MAX_TEXTS, "texts")
    outside = b"".join(unescaped.split(b'"')[::2])
    _check_count(outside.count(b"[") + outside.count(b"{"), _MAX_CONTAINERS, "lists and objects")
    _check_count(outside.count(b","), _MAX_VALUES, "values")


def _check_count(count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidRequest(f"the body holds {count} {what}, more than {most}")


def _invalid_field(message: str) -> InvalidRequest:
    """msgspec says what was expected, and where: `... - at `$.messages[0].role``."""
    found = _PATH.search(message)
    path = found["path"].replace("[...]", "") if found else ""
    what = message[: found.start()] if found else message
    field = _FIELD.search(what)
    if field:
        name = field["field"][:_MAX_NAME]
        path = f"{path}.{name}" if path else name
        known = "is not a parameter of this API" if "unknown" in what else "is required"
        return InvalidRequest(f"{path}: {known}", param=path)
    what = what[0].lower() + what[1:]
    return InvalidRequest(f"{path or 'the body'}: {what}", param=path or None)
