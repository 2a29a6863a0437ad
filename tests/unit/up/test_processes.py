from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL
from pathlib import Path

import pytest

from tandem import __version__
from tandem.up.events import Listening
from tandem.up.processes import first_event, lines, start_process, tandem_command

_DEADLINE_S = 240.0


async def _run(command: list[str]) -> tuple[object, int]:
    async with asyncio.timeout(_DEADLINE_S):
        process = await start_process(command, environment=dict(os.environ), stderr=DEVNULL)
        event = await first_event(process)
        assert process.stdin is not None
        process.stdin.close()
        return event, await process.wait()


def test_a_folder_called_tandem_does_not_shadow_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tandem").mkdir()
    (tmp_path / "tandem" / "__main__.py").write_text("raise SystemExit(9)")
    (tmp_path / "tandem" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)

    async def scenario() -> bytes:
        async with asyncio.timeout(_DEADLINE_S):
            command = tandem_command("--version")
            process = await start_process(command, environment=dict(os.environ), stderr=DEVNULL)
            output, _ = await process.communicate()
            return output

    assert asyncio.run(scenario()).decode() == f"tandem {__version__}\n"


def test_its_first_event_is_told_and_it_ends_with_its_standard_input() -> None:
    code = """print('a library'); print('{"event": "listening", "port": 7}', flush=True)
import sys; sys.exit(len(sys.stdin.read()))"""
    assert asyncio.run(_run([sys.executable, "-c", code])) == (Listening(7), 0)


def test_one_that_ends_without_a_word_has_no_event() -> None:
    assert asyncio.run(_run([sys.executable, "-c", "raise SystemExit(3)"])) == (None, 3)


def test_lines_end_at_newlines_and_carriage_returns_and_are_bounded() -> None:
    async def scenario() -> list[bytes]:
        stream = asyncio.StreamReader()
        stream.feed_data(b"one\n\ntwo 50%\rtwo 100%\r\nthree")
        stream.feed_data(b"x" * 3_000_000)
        stream.feed_eof()
        return [line async for line in lines(stream)]

    found = asyncio.run(scenario())
    assert found[:3] == [b"one", b"two 50%", b"two 100%"]
    assert max(map(len, found)) < 1_200_000
    assert b"".join(found[3:]) == b"three" + b"x" * 3_000_000
