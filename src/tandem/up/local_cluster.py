"""A second rank on this machine, for commands that otherwise run on two."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tandem.runtime import free_port

_END_TIMEOUT_S = 60.0


@contextmanager
def other_rank_here(*command: str, on_note: Callable[[str], None]) -> Iterator[tuple[Path, str]]:
    """Runs `tandem COMMAND --peer ADDRESS --rank 1` beside this process, paired with it.

    Gives the folder of this process's own identity, and the address to listen on as rank 0.
    `on_note` is told what the person at the terminal should know.
    """
    from tandem.security import PairedNode, PairedNodes, load_or_create_identity

    with tempfile.TemporaryDirectory(prefix="tandem-ranks-") as folder:
        homes = [Path(folder) / name for name in ("rank-a", "rank-b")]
        nodes = [PairedNode.of(load_or_create_identity(h).certificate, h.name) for h in homes]
        for home in homes:
            for node in nodes:
                PairedNodes(home).add(node)
        address = f"127.0.0.1:{free_port()}"
        program = [sys.executable, "-P", "-m", "tandem", *command]
        other = subprocess.Popen(
            [*program, f"--peer={address}", "--rank=1", "--json", f"--data-dir={homes[1]}"],
            stdout=subprocess.DEVNULL,
        )
        try:
            yield homes[0], address
            other.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            on_note("The other rank did not end by itself.")
        finally:
            other.kill()
            other.wait()
