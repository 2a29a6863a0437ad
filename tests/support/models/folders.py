"""Model folders as people have them: the shipped model's, with files changed, added or left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from tandem.engine import DEMO_MODEL, resolve_model

SHIPPED = resolve_model(DEMO_MODEL)
PLAIN_TEMPLATE: str = json.loads((SHIPPED / "tokenizer_config.json").read_text())["chat_template"]


class Changed(NamedTuple):
    """The shipped model's file of that name with some fields replaced; `...` takes one out."""

    fields: dict[str, Any]


#: A file's content: text, JSON, a change of the shipped one, or None for a file that is not there.
Files = dict[str, str | dict[str, Any] | Changed | None]


def write_folder(directory: Path, files: Files) -> Path:
    """The shipped model without its weights; `files` replace its own."""
    for path in SHIPPED.glob("*.json"):
        shutil.copy(path, directory)
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(_text(name, content), encoding="utf-8", newline="")
    return directory


def _text(name: str, content: str | dict[str, Any] | Changed) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, Changed):
        merged = json.loads((SHIPPED / name).read_text()) | content.fields
        content = {field: value for field, value in merged.items() if value is not ...}
    return json.dumps(content)


def changed(**fields: object) -> Changed:
    return Changed(fields)


def with_template(template: object) -> Files:
    return {"tokenizer_config.json": changed(chat_template=template)}


def added_token(content: str, **flags: bool) -> dict[str, Any]:
    """A token as `tokenizer_config.json` has it as an object."""
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"__type": "AddedToken", "content": content, **plain, "special": True, **flags}
