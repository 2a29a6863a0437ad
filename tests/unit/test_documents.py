"""The files that documents send a reader to are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
#: Where paths in documents begin.
PACKAGE = ROOT / "src" / "tandem"
BASES = (ROOT, PACKAGE, PACKAGE / "coordinator", ROOT / "tests")
PATH = re.compile(r"`([\w-]+(?:/[\w-]+)+(?:\.(?:py|md|toml|lock)|/))(?:::\w+)?`")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[\w-]+)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    named = {path for path in PATH.findall(text) if "NAME" not in path}
    assert not {path for path in named if not any((base / path).exists() for base in BASES)}
    assert not {link for link in LINK.findall(text) if not (document.parent / link).exists()}
