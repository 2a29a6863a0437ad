"""Changes a message where it hurts: its values and its shape, so that it still parses.

Bytes changed at random rarely get past a parser. These changes are made to the tree that a JSON or
MessagePack text stands for.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

_ODD: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        127,
        256,
        2**31,
        2**32 - 1,
        2**53,
        2**63 - 1,
        -(2**63),
        2**64 - 1,
    ),
    *(
        0.0,
        -0.0,
        0.5,
        1e308,
        -1e308,
        5e-324,
        "",
        "a",
        "\0",
        "\ufffd",
        "\U0001f600",
        "%s",
        "{{ 1/0 }}",
    ),
    *("../x", "a" * 300, [], [[]], [0] * 40, {}, {"": None}, {"a": {}}),
)
#: What grows again and again stays smaller than an input may be.
_MOST_ITEMS, _MOST_CHARACTERS = 2_000, 10_000


class Codec(msgspec.Struct, frozen=True):
    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes]
    #: Values that only this format has.
    odd: tuple[Any, ...]


CODECS = {
    "json": Codec(msgspec.json.decode, msgspec.json.encode, ()),
    "msgpack": Codec(
        msgspec.msgpack.decode,
        msgspec.msgpack.encode,
        (b"", b"\0" * 40, float("nan"), float("inf")),
    ),
}


def changed(
    data: bytes, codec: Codec, draw: random.Random, tokens: tuple[str, ...]
) -> bytes | None:
    """A neighbour of a message; None when the bytes are none."""
    try:
        tree = codec.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, TypeError):
        return None
    for _ in range(draw.randint(1, 3)):
        tree = _change(tree, codec, draw, tokens)
    try:
        return codec.encode(tree)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, OverflowError):
        return None


def _change(tree: Any, codec: Codec, draw: random.Random, tokens: tuple[str, ...]) -> Any:  # noqa: ANN401
    """Walks down to a place, and changes that."""
    here = draw.random() < 0.25
    if isinstance(tree, dict) and tree and not here:
        key = draw.choice(list(tree))
        return {**tree, key: _change(tree[key], codec, draw, tokens)}
    if isinstance(tree, list) and tree and not here:
        index = draw.randrange(len(tree))
        return [*tree[:index], _change(tree[index], codec, draw, tokens), *tree[index + 1 :]]
    return draw.choice((_replaced, _replaced, _grown, _shrunk))(tree, codec, draw, tokens)


def _replaced(_tree: Any, codec: Codec, draw: random.Random, tokens: tuple[str, ...]) -> Any:  # noqa: ANN401
    return draw.choice((*_ODD, *codec.odd, *(token.strip('"') for token in tokens)))


def _grown(tree: Any, codec: Codec, draw: random.Random, tokens: tuple[str, ...]) -> Any:  # noqa: ANN401
    if isinstance(tree, dict):
        name = draw.choice([*tree, *(token.strip('"') for token in tokens), ""])
        return {**tree, name: _replaced(tree, codec, draw, tokens)}
    if isinstance(tree, list):
        longer = tree * draw.choice((2, 20)) or [_replaced(tree, codec, draw, tokens)]
        return longer[:_MOST_ITEMS]
    if isinstance(tree, str | bytes):
        return (tree * draw.choice((2, 50)))[:_MOST_CHARACTERS]
    return tree * 2 + 1 if isinstance(tree, int) and abs(tree) < 2**62 else [tree]


def _shrunk(tree: Any, _codec: Codec, draw: random.Random, _tokens: tuple[str, ...]) -> Any:  # noqa: ANN401
    if isinstance(tree, dict) and tree:
        gone = draw.choice(list(tree))
        return {key: value for key, value in tree.items() if key != gone}
    if isinstance(tree, list | str | bytes) and tree:
        return tree[: draw.randrange(len(tree))]
    return None
