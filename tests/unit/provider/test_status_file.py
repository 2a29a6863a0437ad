"""The file that says what a machine does in a cluster: never a reason to stop."""

from __future__ import annotations

from pathlib import Path

import msgspec
from structlog.testing import capture_logs

from tandem.protocol.cluster import ClusterReport, Collectives, NodeReport
from tandem.provider.status_file import StatusFile

REPORT = NodeReport(
    1,
    "fox",
    ClusterReport(
        state="pairing",
        node_id="ab",
        name="one",
        ranks_wanted=2,
        collectives=Collectives.SEALED,
        connected=[],
        refusals={},
    ),
)


def test_a_disk_that_takes_nothing_is_said_once_and_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    status = StatusFile(folder / "status.json")
    with capture_logs() as logs:
        status.write(REPORT)
        status.write(REPORT)
        status.remove()
    assert [line["event"] for line in logs] == ["status_not_written"]
    folder.mkdir()
    status.write(REPORT)
    assert msgspec.json.decode((folder / "status.json").read_bytes(), type=NodeReport) == REPORT
    status.remove()
    assert list(folder.iterdir()) == []
