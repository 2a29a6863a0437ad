"""What two machines say to be paired, and what a node says about itself, as bytes."""

from __future__ import annotations

import msgspec
import pytest

from tandem.protocol.cluster import (
    ClusterReport,
    Collectives,
    CounterOffer,
    NodeReport,
    Offer,
    PairingMessage,
    Parallelism,
    RankReport,
    Reveal,
    Verdict,
)

PAIRING: dict[PairingMessage, bytes] = {
    Offer("n", "c", b"h"): b"\x84\xa4type\xa5Offer\xa4name\xa1n\xabcertificate\xa1c"
    b"\xaacommitment\xc4\x01h",
    CounterOffer("n", "c", b"r"): b"\x84\xa4type\xa6Answer\xa4name\xa1n\xabcertificate\xa1c"
    b"\xa5nonce\xc4\x01r",
    Reveal(b"r"): b"\x82\xa4type\xa6Reveal\xa5nonce\xc4\x01r",
    Verdict(True): b"\x82\xa4type\xa7Verdict\xa8accepted\xc3",
}


@pytest.mark.parametrize("message", PAIRING, ids=lambda message: type(message).__name__)
def test_pairing_knows_no_version_so_its_bytes_stay(message: PairingMessage) -> None:
    assert msgspec.msgpack.encode(message) == PAIRING[message]
    assert msgspec.msgpack.decode(PAIRING[message], type=PairingMessage) == message


def test_a_report_is_plain_json_that_scripts_can_read() -> None:
    rank = RankReport(1, "id", "box", "10.0.0.2:7700", "0-3", 52.5, None)
    report = NodeReport(
        7,
        "m",
        ClusterReport(
            "active", "id", "box", 2, Collectives.SEALED, ["two"], {}, 0, Parallelism.TENSOR,
            "auto", [rank],
        ),
    )  # fmt: skip
    encoded = msgspec.json.encode(report)
    assert msgspec.json.decode(encoded) == {
        "pid": 7,
        "model": "m",
        "cluster": {
            "state": "active",
            "node_id": "id",
            "name": "box",
            "ranks_wanted": 2,
            "collectives": "sealed",
            "connected": ["two"],
            "refusals": {},
            "rank": 0,
            "strategy": "tp",
            "why": "auto",
            "ranks": [
                {
                    "rank": 1,
                    "node_id": "id",
                    "name": "box",
                    "address": "10.0.0.2:7700",
                    "layers": "0-3",
                    "round_trip_us": 52.5,
                    "mb_per_s": None,
                }
            ],
        },
    }
    assert msgspec.json.decode(encoded, type=NodeReport) == report
