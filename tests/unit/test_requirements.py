"""`docs/requirements.md`: no row is missing, and every test that it names is there."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "requirements.md"
SECTIONS = {"A": 12, "B": 20, "C": 12}


def _rows() -> list[tuple[str, list[str]]]:
    """The number of each requirement, and the tests that prove it."""
    rows = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and cells[0] != "#" and set(cells[0]) != {"-"}:
            number, _, tests = cells
            rows.append((number, [named.strip("`") for named in tests.split()]))
    return rows


@functools.cache
def _functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


def test_every_requirement_has_its_row() -> None:
    numbers = [number for number, _ in _rows()]
    expected = [f"{s}{n}" for s, last in SECTIONS.items() for n in range(1, last + 1)]
    assert numbers == expected


@pytest.mark.parametrize("row", _rows(), ids=lambda row: row[0])
def test_what_proves_it_is_a_test(row: tuple[str, list[str]]) -> None:
    _, tests = row
    assert tests
    for named in tests:
        path, _, function = named.partition("::")
        assert function.startswith("test_"), named
        assert function in _functions(ROOT / "tests" / path), named
