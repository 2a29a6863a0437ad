"""The shape of the code: small files, functions and folders, and tests that mirror the tree."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tandem.errors import CheckpointError, ConfigurationError, PeerRefused, TandemError

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tandem"
SOURCES = sorted(
    path for root in (PACKAGE, ROOT / "benchmarks", ROOT / "fuzz") for path in root.rglob("*.py")
)
ALL = [
    path
    for folder in ("src", "tests", "benchmarks", "fuzz", "scripts", "training")
    for path in sorted((ROOT / folder).rglob("*.py"))
]
MAX_FILE_LINES = 400
MAX_P90_FUNCTION_LINES = 25
MAX_MODULES_A_FOLDER = 15


def test_files_stay_small() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in ALL}
    assert not {path: length for path, length in lengths.items() if length > MAX_FILE_LINES}


def test_folders_stay_small() -> None:
    modules = Counter(path.parent for path in ALL if path.name != "__init__.py")
    assert not {folder: n for folder, n in modules.items() if n > MAX_MODULES_A_FOLDER}


def test_nine_functions_of_ten_fit_a_screen() -> None:
    lengths = sorted(
        (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    assert lengths[len(lengths) * 9 // 10] <= MAX_P90_FUNCTION_LINES


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        path
        for path in SOURCES
        if path.name != "__main__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_unit_tests_mirror_the_tree() -> None:
    """A folder of unit tests has the name of the package whose modules it tests."""
    tests = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(tests) for path in tests.rglob("test_*.py")}
    rooms = {path.parent.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    beside = {path.parent.relative_to(ROOT) for path in ALL if not path.is_relative_to(PACKAGE)}
    assert folders <= rooms | beside


def test_every_error_has_its_row_in_the_documentation() -> None:
    rows = {
        code.strip().strip("`"): (status.strip(), retry.strip())
        for line in (ROOT / "docs" / "errors.md").read_text().splitlines()
        if line.startswith("| `")
        for _, code, status, retry, *_ in [line.split("|")]
    }
    kinds = _tree(TandemError)
    for kind in kinds:
        status = "-" if kind in {PeerRefused, CheckpointError, ConfigurationError} else kind.status
        assert rows[kind.code] == (str(status), "yes" if kind.retryable else "no"), kind
    assert set(rows) == {kind.code for kind in kinds}


def _tree(root: type[TandemError]) -> list[type[TandemError]]:
    """The errors of `tandem.errors`, without those that a command keeps to itself."""
    found = [root] if root is not TandemError and root.__module__ == TandemError.__module__ else []
    for child in root.__subclasses__():
        found += _tree(child)
    return found
