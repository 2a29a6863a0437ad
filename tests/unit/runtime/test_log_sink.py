"""A log that cannot be written loses lines, and nothing else."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator

import pytest

from tandem.runtime import log_sink
from tandem.runtime.log_sink import LogSink

Pipe = tuple[int, int]
TIMEOUT_S = 60.0


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue  # a test closed it


def lost_line(lost: int) -> str:
    return f"lost {lost}\n"


def lines_of(descriptor: int, count: int) -> list[str]:
    """Reads until so many lines are there."""
    found = b""
    while found.count(b"\n") < count:
        found += os.read(descriptor, 65536)
    return found.decode().splitlines()


def test_lines_come_out_in_their_order(pipe: Pipe) -> None:
    sink = LogSink(pipe[1], lost_line)
    for number in range(1000):
        sink.write(f"{number}\n")
    assert lines_of(pipe[0], 1000) == [str(number) for number in range(1000)]
    assert sink.drain(TIMEOUT_S)


def test_nobody_waits_for_a_reader_that_does_not_read(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_sink, "_MAX_LINES", 50)
    sink = LogSink(pipe[1], lost_line)
    for _ in range(200):
        sink.write("x" * 9999 + "\n")
    assert not sink.drain(0.0)
    found = bytearray()
    reader = threading.Thread(target=_read_until_the_end, args=(pipe[0], found))
    reader.start()
    assert sink.drain(TIMEOUT_S)
    sink.write("end\n")
    reader.join(TIMEOUT_S)
    lines = found.decode().splitlines()
    lost = [int(line.split()[1]) for line in lines if line.startswith("lost")]
    assert sum(lost) + lines.count("x" * 9999) == 200
    assert sum(lost) >= 100


def _read_until_the_end(descriptor: int, found: bytearray) -> None:
    while not found.endswith(b"end\n"):
        found += os.read(descriptor, 65536)


def test_a_closed_pipe_costs_lines_and_no_more(pipe: Pipe) -> None:
    sink = LogSink(pipe[1], lost_line)
    os.close(pipe[0])
    for _ in range(10):
        sink.write("lost\n")
    assert sink.drain(TIMEOUT_S)


def test_what_was_lost_is_said_once_it_works_again(pipe: Pipe) -> None:
    """As on a full disk, where room was made."""
    nobody_reads, own = os.pipe()
    os.close(nobody_reads)
    sink = LogSink(own, lost_line)
    for _ in range(3):
        sink.write("lost\n")
    assert sink.drain(TIMEOUT_S)
    os.dup2(pipe[1], own)
    sink.write("kept\n")
    assert lines_of(pipe[0], 2) == ["kept", "lost 3"]
    sink.write("more\n")
    assert lines_of(pipe[0], 1) == ["more"]
    os.close(own)


def test_a_descriptor_that_does_not_wait_is_waited_for(pipe: Pipe) -> None:
    flags = fcntl.fcntl(pipe[1], fcntl.F_GETFL)
    fcntl.fcntl(pipe[1], fcntl.F_SETFL, flags | os.O_NONBLOCK)
    sink = LogSink(pipe[1], lost_line)
    text = [f"{number} " + "y" * 5000 for number in range(100)]
    reading: list[str] = []
    reader = threading.Thread(target=lambda: reading.extend(lines_of(pipe[0], 100)))
    for line in text:
        sink.write(line + "\n")
    reader.start()
    reader.join(TIMEOUT_S)
    assert reading == text


def test_a_line_without_end_is_cut(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_sink, "_MAX_LINE_BYTES", 10)
    sink = LogSink(pipe[1], lost_line)
    sink.write("z" * 1000 + "\n")
    sink.write("after\n")
    assert lines_of(pipe[0], 2) == ["z" * 9, "after"]


def test_what_is_no_text_is_written_as_an_escape(pipe: Pipe) -> None:
    sink = LogSink(pipe[1], lost_line)
    sink.write("gr\udcfcn\n")
    assert lines_of(pipe[0], 1) == ["gr\\udcfcn"]
