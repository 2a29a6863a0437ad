"""A cluster on this machine alone: its nodes paired, and the rank beside this process.

The ranks of one cluster belong to one person. On one machine nobody has to compare codes.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tandem.runtime import free_port
from tandem.up.processes import tandem_command

_END_TIMEOUT_S = 60.0
_HOST = "127.0.0.1"


def pair_local_nodes(homes: Mapping[str, Path]) -> None:
    """Nodes by their names, and the folder of each: from now on all of them know each other."""
    from tandem.security import PairedNode, PairedNodes, load_or_create_identity

    nodes = [
        PairedNode.of(load_or_create_identity(home).certificate, name)
        for name, home in homes.items()
    ]
    for home in homes.values():
        for node in nodes:
            PairedNodes(home).add(node)


def local_rank_arguments(ranks: int, parallelism: str) -> list[list[str]]:
    """What each rank's `tandem provider` is told, so that all dial rank 0; nothing to one rank."""
    if ranks == 1:
        return [[]]
    address = f"{_HOST}:{free_port()}"
    common = [f"--ranks={ranks}", f"--parallelism={parallelism}"]
    first = [*common, "--rank=0", f"--cluster-listen={address}"]
    others = [
        [*common, f"--rank={rank}", f"--cluster-listen={_HOST}:0", f"--peer={address}"]
        for rank in range(1, ranks)
    ]
    return [first, *others]


@contextmanager
def other_rank_here(*command: str, on_note: Callable[[str], None]) -> Iterator[tuple[Path, str]]:
    """Runs `tandem COMMAND --peer ADDRESS --rank 1` beside this process, paired with it.

    Gives the folder of this process's own identity, and the address to listen on as rank 0.
    `on_note` is told what the person at the terminal should know.
    """
    with tempfile.TemporaryDirectory(prefix="tandem-ranks-") as folder:
        homes = [Path(folder) / name for name in ("rank-a", "rank-b")]
        pair_local_nodes({home.name: home for home in homes})
        address = f"{_HOST}:{free_port()}"
        options = [f"--peer={address}", "--rank=1", "--json", f"--data-dir={homes[1]}"]
        other = subprocess.Popen(tandem_command(*command, *options), stdout=subprocess.DEVNULL)
        try:
            yield homes[0], address
            other.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            on_note("The other rank did not end by itself.")
        finally:
            other.kill()
            other.wait()
