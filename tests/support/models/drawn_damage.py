"""Model files with something in them that nobody would write: a value or some bytes changed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.support.models.folders import SHIPPED, Files, added_token

from tandem.engine import Message, Tokenizer
from tandem.engine.checkpoint.generation_config import read_sampling_defaults
from tandem.engine.families import read_config

_FILES: dict[str, dict[str, Any]] = {
    name: json.loads((SHIPPED / name).read_text())
    for name in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
} | {
    "special_tokens_map.json": {"bos_token": added_token("<|begin|>"), "eos_token": "<|end|>"},
    "added_tokens.json": {"<new>": 2048},
}
_ODD: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, 1.5, 2**70, -(2**63), "", "x", "<|end|>", "\0", "\ud800"),
        *([], {}, [[]], ["a"] * 3, {"content": None}, {"content": "x", "lstrip": 3}),
    ]
)
#: Of a table or a list so many entries are looked at: a vocabulary has thousands that are alike.
_MOST = 20


@st.composite
def damaged_files(draw: st.DrawFn) -> Files:
    """One or two files of the shipped model's folder, damaged."""
    names = draw(st.sets(st.sampled_from(sorted(_FILES)), min_size=1, max_size=2))
    return {name: draw(_replaced(_FILES[name]) | _scribbled(_FILES[name])) for name in names}


@st.composite
def _replaced(draw: st.DrawFn, content: dict[str, Any]) -> str:
    copy = json.loads(json.dumps(content))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(list(_places(copy))))
        if draw(st.booleans()):
            del place[0][place[1]]
        else:
            place[0][place[1]] = json.loads(json.dumps(draw(_ODD)))
        if not copy:
            break
    return json.dumps(copy)


def _places(value: Any) -> list[tuple[Any, Any]]:  # noqa: ANN401 - any JSON
    """Everything that stands in a value: what holds it, and where in there."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)[:_MOST]
    elif isinstance(value, list):
        keys = list(range(min(len(value), _MOST)))
    else:
        return []
    return [(value, key) for key in keys] + [p for key in keys for p in _places(value[key])]


@st.composite
def _scribbled(draw: st.DrawFn, content: dict[str, Any]) -> str:
    text = json.dumps(content)
    start = draw(st.integers(0, len(text)))
    length = draw(st.integers(0, 4))
    return text[:start] + draw(st.text(max_size=4).map(_encodable)) + text[start + length :]


def _encodable(text: str) -> str:
    return text.encode(errors="ignore").decode()


def read_all(folder: Path) -> None:
    """Everything that is read of a folder before its weights. Raises TandemError."""
    read_config(folder)
    read_sampling_defaults(folder)
    tokenizer = Tokenizer(folder)
    tokenizer.encode("the fox <|end|> né")
    tokenizer.decode(tokenizer.encode_chat([Message("user", "hi <new>")]))
