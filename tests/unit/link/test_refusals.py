"""Every refusal is counted; how fast the log grows is not for strangers to say."""

from __future__ import annotations

from structlog.testing import capture_logs

from tandem.link.refusals import Refusals


def test_a_sender_is_written_down_once_a_minute_for_each_reason() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    with capture_logs() as logs:
        for _ in range(1000):
            refusals.add("10.0.0.1", "no certificate")
        refusals.add("10.0.0.1", "no handshake")
        now[0] = 61.0
        refusals.add("10.0.0.1", "no certificate")
    assert refusals.count == 1002
    assert [(line["address"], line["reason"], line["unlogged"]) for line in logs] == [
        ("10.0.0.1", "no certificate", 0),
        ("10.0.0.1", "no handshake", 999),
        ("10.0.0.1", "no certificate", 0),
    ]


def test_many_senders_make_few_lines() -> None:
    refusals = Refusals(lambda: 0.0)
    with capture_logs() as logs:
        for number in range(10_000):
            refusals.add(f"10.0.{number // 256}.{number % 256}", "no certificate")
    assert refusals.count == 10_000
    assert len(logs) == 32
