"""What the documentation shows is true: its snippets run, and its commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.running_up import Up, outside_settings
from tests.support.waiting import DEADLINE_S
from typer.testing import CliRunner

from tandem.cli import app

ROOT = Path(__file__).parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?P<kind>\w+)\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
LOCAL_URL, KEY = "http://127.0.0.1:8000/v1", "sk-tandem-..."


def _blocks(path: Path, *kinds: str) -> list[str]:
    return [found["text"] for found in FENCE.finditer(path.read_text()) if found["kind"] in kinds]


def _commands(path: Path) -> list[list[str]]:
    """The arguments of each `tandem ...` line in a document's shell blocks."""
    lines = "\n".join(_blocks(path, "sh", "console")).replace("\\\n", " ").splitlines()
    commands = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words and Path(words[0]).name == "tandem":
            commands.append(words[1:])
    return commands


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_shown_exists_with_its_options(path: Path) -> None:
    for words in _commands(path):
        known = _options_of(words)
        used = {word.partition("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
        assert used <= known, words


def _options_of(words: list[str]) -> set[str]:
    """The options that the command in `words` has, by its own help."""
    command = [word for word in words[:2] if re.fullmatch("[a-z]+", word)]
    depth = 2 if command[0] in {"accounts", "bench", "cluster", "keys", "model", "nodes"} else 1
    done = CliRunner().invoke(app, [*command[:depth], "--help"])
    assert done.exit_code == 0, words
    return set(re.findall(r"(?<![\w-])-{1,2}[a-z][a-z-]*", done.output))


def test_the_python_example_runs(up: Up) -> None:
    (example,) = _blocks(ROOT / "README.md", "python")
    assert LOCAL_URL in example
    assert KEY in example
    script = example.replace(LOCAL_URL, up.base_url).replace(KEY, up.api_key)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=outside_settings(),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "3 + 4 = 7."


def test_the_curl_example_runs(up: Up) -> None:
    example = next(b for b in _blocks(ROOT / "README.md", "sh") if "curl" in b)
    script = example.replace(LOCAL_URL, up.base_url).replace(KEY, up.api_key)
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert "3 + 4 = 7." in done.stdout, done.stderr
