"""What a process logs, as its standard error stream has it."""

from __future__ import annotations

import json
import subprocess
import sys

_SET_UP = (
    "import logging, os, structlog, sys\n"
    "from tandem.runtime import configure_logging, drain_log\n"
    "configure_logging('info')\n"
    "log = structlog.get_logger('x')\n"
)


def _lines(script: str) -> list[dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", _SET_UP + script], capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_the_last_lines_of_a_process_are_there() -> None:
    found = _lines("for number in range(500): log.info('counted', number=number)")
    assert [line["number"] for line in found] == list(range(500))
    (line,) = _lines("log.warning('end'); drain_log(); os._exit(0)")
    assert (line["event"], line["level"]) == ("end", "warning")


def test_libraries_speak_as_everybody_does() -> None:
    script = (
        "logging.getLogger('lib').warning('odd %s', 7); logging.getLogger('lib').info('silent')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: logging.getLogger('asyncio').exception('never retrieved')\n"
    )
    odd, failed = _lines(script)
    assert (odd["event"], odd["library"], odd["message"]) == ("library_says", "lib", "odd 7")
    assert (failed["library"], failed["level"]) == ("asyncio", "error")
    assert "ZeroDivisionError" in str(failed["exception"])


def test_a_library_fills_no_log() -> None:
    script = (
        "for number in range(1000): logging.getLogger('asyncio').warning(f'{number} closed')\n"
        "logging.getLogger('asyncio').warning('elsewhere')\n"
    )
    *many, elsewhere = _lines(script)
    assert [line["message"] for line in many] == [f"{number} closed" for number in range(20)]
    assert elsewhere["message"] == "elsewhere"


def test_what_was_lost_is_a_line_like_every_other() -> None:
    script = (
        "read, gone = os.pipe(); os.close(read); own = os.dup(2); os.dup2(gone, 2)\n"
        "log.info('lost'); log.info('lost'); drain_log(30.0)\n"
        "os.dup2(own, 2); log.info('kept')\n"
    )
    kept, lost = _lines(script)
    assert (kept["event"], lost["event"]) == ("kept", "log_lines_lost")
    assert (lost["lines"], lost["level"]) == (2, "warning")
    assert "timestamp" in lost
