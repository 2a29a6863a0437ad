"""Standard streams that are closed, or know no umlauts, in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_PREPARE = "from tandem.runtime import prepare_standard_streams as p; p(); import os, sys; "


def _run(script: str, *closed: int, stdin: bytes = b"", **environment: str) -> bytes:
    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    done = subprocess.run(
        [sys.executable, "-c", _PREPARE + script],
        input=stdin,
        stdout=subprocess.PIPE,
        preexec_fn=close,
        env=os.environ | environment,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2)])
def test_a_closed_stream_is_the_null_device(closed: tuple[int, ...]) -> None:
    script = (
        "null = os.stat(os.devnull).st_rdev; read = sys.stdin.read();"
        "print('x', file=sys.stderr, flush=True);"
        f"print(repr(read), [os.fstat(n).st_rdev == null for n in {closed}])"
    )
    assert _run(script, *closed).decode() == f"'' {[True] * len(closed)}\n"


def test_what_is_opened_next_does_not_take_the_place_of_a_closed_stream() -> None:
    script = "print(os.open(os.devnull, os.O_RDONLY) > 2)"
    assert _run(script, 0, 2) == b"True\n"


def test_children_find_the_null_device_too() -> None:
    script = (
        "import subprocess; print(subprocess.run([sys.executable, '-c',"
        "'import sys; print(sys.stdin.read(), sys.stderr is not None)'],"
        "capture_output=False, check=True, stdout=subprocess.PIPE).stdout)"
    )
    assert _run(script, 0, 2) == b"b' True\\n'\n"


def test_bytes_that_are_no_text_are_read_as_what_stands_for_them() -> None:
    script = "sys.stdout.buffer.write(sys.stdin.read().encode())"
    assert _run(script, stdin=b"gr\xfc\xdfe") == "gr\ufffd\ufffde".encode()


def test_what_an_alphabet_lacks_is_escaped() -> None:
    script = "print('gr\\u00fc\\U0001f98a')"
    assert _run(script, PYTHONIOENCODING="ascii:strict") == b"gr\\xfc\\U0001f98a\n"
