"""`tandem pair` and `tandem cluster status`, as two people at two machines would use them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.support.running_up import outside_settings, running_up, tandem
from tests.support.waiting import DEADLINE_S

from tandem.security import PairedNodes, load_or_create_identity
from tandem.up import tandem_command


def _start(data_dir: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        tandem_command("pair", "--data-dir", str(data_dir), *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=outside_settings(),
    )


def _pair(tmp_path: Path, answers: tuple[str, str]) -> tuple[list[str], list[int]]:
    """The codes that the two sides showed, and their exit codes."""
    listening = _start(tmp_path / "one", "--listen", "127.0.0.1:0", "--name", "one")
    assert listening.stderr is not None
    port = re.search(r"port (\d+)", listening.stderr.readline())
    assert port is not None
    dialling = _start(tmp_path / "two", f"127.0.0.1:{port.group(1)}", "--name", "two")
    for process, answer in zip((dialling, listening), answers, strict=True):
        assert process.stdin is not None
        process.stdin.write(answer)
        process.stdin.flush()
    outputs = [dialling.communicate(timeout=DEADLINE_S)]
    if dialling.returncode:  # the other side goes on waiting for the right machine
        listening.terminate()
    outputs.append(listening.communicate(timeout=DEADLINE_S))
    codes = [re.search(r"show (\d{3} \d{3})", err) for _, err in outputs]
    return [c.group(1) if c else "" for c in codes], [dialling.returncode, listening.returncode]


def test_both_show_the_same_code_and_trust_each_other_afterwards(tmp_path: Path) -> None:
    codes, exits = _pair(tmp_path, ("y\n", "y\n"))
    assert exits == [0, 0]
    assert codes[0] == codes[1] != ""
    for own, other in (("one", "two"), ("two", "one")):
        (node,) = PairedNodes(tmp_path / own).all()
        assert node.name == other
        assert node.node_id == load_or_create_identity(tmp_path / other).node_id


@pytest.mark.parametrize("answers", [("n\n", "y\n"), ("y\n", "n\n")])
def test_a_no_on_either_side_pairs_nobody(tmp_path: Path, answers: tuple[str, str]) -> None:
    _, exits = _pair(tmp_path, answers)
    assert 0 not in exits
    for own in ("one", "two"):
        assert PairedNodes(tmp_path / own).all() == []


def test_machines_of_one_account_pair_through_the_coordinator(tmp_path: Path) -> None:
    """Neither shows a code: each takes the other's certificate from the coordinator."""
    with running_up(tmp_path, "--providers=2") as up:
        service = (f"--base-url={up.base_url}", f"--api-key={up.operator_key}", "--insecure")
        folders = [tmp_path / "nodes" / f"provider-{number}" for number in (1, 2)]
        unasked = tandem("pair", "--account", *service, data_dir=folders[0])
        assert unasked.returncode == 2
        assert "nothing was paired" in unasked.stderr
        assert PairedNodes(folders[0]).all() == []
        for folder, other in zip(folders, reversed(folders), strict=True):
            paired = tandem("pair", "--account", other.name, "--yes", *service, data_dir=folder)
            assert paired.returncode == 0, paired.stderr
            (node,) = PairedNodes(folder).all()
            assert node.certificate == load_or_create_identity(other).certificate
            assert node.name == other.name
            assert f"{other.name}: node {node.node_id[:16]}, trust self_signed" in paired.stderr
        nobody = tandem("pair", "--account", "stranger", *service, data_dir=folders[0])
        assert nobody.returncode == 2
        assert "stranger" in nobody.stderr


def test_status_shows_ranks_processes_links_and_why(tmp_path: Path) -> None:
    with running_up(tmp_path, "--ranks=2", "--parallelism=pp") as up:
        done = tandem("cluster", "status", "--json", data_dir=tmp_path)
        assert done.returncode == 0, done.stderr
        reports = json.loads(done.stdout)
        assert [report["cluster"]["rank"] for report in reports] == [0, 1]
        assert {report["pid"] for report in reports} == set(up.provider_pids)
        first = reports[0]["cluster"]
        assert first["strategy"] == "pp"
        assert "--parallelism pp" in first["why"]
        # Where it is cut depends on how fast the ranks were when they were measured.
        layers = " ".join(rank["layers"] for rank in first["ranks"])
        cut = re.fullmatch(r"0-(\d) (\d)-5", layers)
        assert cut is not None, layers
        assert int(cut[1]) + 1 == int(cut[2])
        link = first["ranks"][1]
        assert link["round_trip_us"] > 0
        assert link["mb_per_s"] > 0
        assert re.fullmatch(r"127\.0\.0\.1:\d+", link["address"])
        shown = tandem("cluster", "status", data_dir=tmp_path).stdout
        assert "rank 0 of 2" in shown
        assert "MB/s" in shown
        up.stop()
    gone = tandem("cluster", "status", data_dir=tmp_path)
    assert gone.returncode == 3
    assert "up --ranks 2" in gone.stderr
