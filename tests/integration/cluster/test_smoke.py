"""`tandem smoke` (B20): on loopback, and across network namespaces where the system allows."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.running_up import outside_settings, tandem
from tests.support.waiting import DEADLINE_S

from tandem.up import pair_local_nodes


def test_two_ranks_on_this_machine_answer_as_one(tmp_path: Path) -> None:
    done = tandem("smoke", "--json", data_dir=tmp_path)
    assert done.returncode == 0, done.stderr
    verdict = json.loads(done.stdout)
    assert verdict["passed"] is True
    names = [check["name"] for check in verdict["checks"]]
    assert names == [
        "one process",
        "link to rank 1",
        "tensor parallel",
        "link to rank 1",
        "pipeline",
    ]


#: Two namespaces with a cable between them, all of it inside one that is ours alone.
_NETWORK = """
set -e
ip link add left type veth peer name right
ip addr add 10.77.0.1/24 dev left
ip link set left up
ip link set lo up
unshare --net sh -c 'echo $$ > {fifo}; read _ < {fifo}; ip addr add 10.77.0.2/24 dev right;
    ip link set right up; ip link set lo up; exec {two}' &
pid=$(cat {fifo})
ip link set right netns $pid
echo go > {fifo}
{one}
wait $!
"""


def test_two_hosts_with_a_cable_between_them(tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    pair_local_nodes({home.name: home for home in homes})
    command = f"{sys.executable} -m tandem smoke --json"
    one = f"{command} --cluster-listen 10.77.0.1:7700 --data-dir {homes[0]} > {tmp_path}/one.json"
    two = f"{command} --peer 10.77.0.1:7700 --data-dir {homes[1]} > {tmp_path}/two.json"
    if not _namespaces_are_allowed():
        # The same two processes with the same options, on two addresses of loopback.
        one, two = (text.replace("10.77.0.1", "127.0.0.77") for text in (one, two))
        script = f"{two} & {one}; wait $!"
    else:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        script = _NETWORK.format(fifo=fifo, one=one, two=two)
        script = f"unshare --user --map-root-user --net sh -c {_quoted(script)}"
    done = subprocess.run(
        ["sh", "-c", script],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env=outside_settings(),
    )
    assert done.returncode == 0, done.stderr
    judged = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "two")]
    assert all(verdict["passed"] for verdict in judged)
    checks = [check for verdict in judged for check in verdict["checks"]]
    assert (
        sum(check["name"] == "tensor parallel" and check["passed"] is True for check in checks) == 1
    )
    assert sum(check["name"] == "pipeline" and check["passed"] is True for check in checks) == 1


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"


def _namespaces_are_allowed() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    probe = "unshare --user --map-root-user --net ip link add left type veth peer name right"
    return subprocess.run(["sh", "-c", probe], capture_output=True, check=False).returncode == 0
