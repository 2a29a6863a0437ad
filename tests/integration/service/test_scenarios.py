"""`tandem bench scenarios`: one of them on real processes; `make soak` runs all."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.running_up import tandem

NAME = "1-provider-scaling"


def test_every_request_of_a_scenario_succeeds_and_the_reports_name_it(tmp_path: Path) -> None:
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    arguments = (f"--only={NAME}", "--json", f"--html={page}", f"--markdown={text}")
    done = tandem("bench", "scenarios", *arguments, data_dir=tmp_path)
    (outcome,) = json.loads(done.stdout)["outcomes"]
    assert outcome["scenario"]["name"] == NAME
    assert (outcome["failures"], outcome["kills"]) == ([], 0)
    passed = {check["name"]: check["passed"] for check in outcome["checks"]}
    assert passed["success"]
    assert passed["every segment present"]
    # How long it took is for whoever measures to judge: the exit code says the same as the checks.
    assert done.returncode == (not all(passed.values()))
    assert f"<h2>{NAME} " in page.read_text()
    assert f"## {NAME}\n" in text.read_text()


def test_a_name_that_is_no_scenario_is_refused_with_the_names(tmp_path: Path) -> None:
    done = tandem("bench", "scenarios", "--only=2-provider-streaming", data_dir=tmp_path)
    assert done.returncode == 2
    assert "1-provider-streaming" in done.stderr
