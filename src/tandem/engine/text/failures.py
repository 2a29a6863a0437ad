"""What goes wrong with text: worded for whoever sent it, and panics of the tokenizer's library."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from tandem.errors import InternalError

P = ParamSpec("P")
R = TypeVar("R")

_MAX_REASON = 300


def reason(error: BaseException) -> str:
    """One short line that can be sent on: templates may raise text of any size and content."""
    text = str(error)[:_MAX_REASON].encode("utf-8", "replace").decode()
    return " ".join(text.split()) or type(error).__name__


def is_panic(error: BaseException) -> bool:
    """Whether it is a panic of a library in Rust, which is no `Exception`."""
    return type(error).__name__ == "PanicException"


def no_panic(call: Callable[P, R]) -> Callable[P, R]:
    """Raises InternalError for a panic of a library in Rust, which is no `Exception`."""

    @wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return call(*args, **kwargs)
        except BaseException as error:
            if not is_panic(error):
                raise
            raise InternalError("the tokenizer's library failed on this text") from error

    return guarded
