"""The load scenarios, all of them, as a user runs them: every request, and every time of it.

How long things take is the benchmark's to judge, on a machine that does nothing else. That no
segment is negative is proved where the clock is the test's (`tests/simulation`): here a system that
sets its clock turns the order of two readings round.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.support.running_up import tandem

from tandem.bench.scenarios import SCENARIOS

#: The checks that hold however slow the machine is, and whatever its clock is set to.
_ALWAYS = {"success", "every segment present", "segments sum to the total"}


@pytest.mark.timeout(3600)
def test_every_request_of_every_scenario_succeeds_and_its_time_is_accounted_for(
    tmp_path: Path,
) -> None:
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    arguments = ("--json", f"--html={page}", f"--markdown={text}")
    done = tandem("bench", "scenarios", *arguments, data_dir=tmp_path, timeout_s=3500)
    assert done.returncode in (0, 1), done.stderr
    outcomes = json.loads(done.stdout)["outcomes"]
    assert [o["scenario"]["name"] for o in outcomes] == [s.name for s in SCENARIOS]
    for outcome in outcomes:
        assert outcome["failures"] == []
        failed = {c["name"]: c["value"] for c in outcome["checks"] if not c["passed"]}
        assert not _ALWAYS & set(failed), (outcome["scenario"]["name"], failed)
        assert {check["name"] for check in outcome["checks"]} >= _ALWAYS
    assert done.returncode == any(not c["passed"] for o in outcomes for c in o["checks"])
    killed = {o["scenario"]["name"]: o["kills"] for o in outcomes}
    assert killed.pop("3-provider-kills") > 0
    assert not any(killed.values())
    for name in killed:
        assert f"<h2>{name} " in page.read_text()
        assert f"## {name}\n" in text.read_text()
