"""Each rank reads and holds its own slices only."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.waiting import DEADLINE_S

from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

#: Half of its 100 million parameters are in layers, half in the embedding and the head.
SHAPE = Size(8, 768, 2048, 12, 6, 64, 32_000)
#: One process forks for each shard: all begin with the same memory.
_MEASURE = """
import os, sys
from pathlib import Path
import psutil, torch
from tandem.engine import *
from tests.support.waiting import DEADLINE_S

from tandem.engine.backends.pytorch.layers.linear import make_linear
from tandem.runtime import configure_logging
configure_logging("error")
options = EngineOptions(directory=Path(sys.argv[1]), dtype="bfloat16", device="cpu", threads=1)
setup = prepare(options)
layers = setup.config.num_layers
class Group(Solo):
    size = 2
def shard(strategy, rank):
    Group.rank = rank
    if strategy == "tp":
        return tensor_parallel(setup.config, rank, 2), Group()
    if strategy == "pp":
        span = Span(layers * rank // 2, layers * (rank + 1) // 2)
        return pipeline_stage(setup.config, span), Solo()
    return whole(setup.config), Solo()
# What PyTorch and the compiled loops take on first use is no weight.
ones = torch.ones(64, 64, dtype=torch.bfloat16)
make_linear(ones, None, None)(ones[:1])
for strategy, rank in [("local", 0), ("tp", 0), ("tp", 1), ("pp", 0), ("pp", 1)]:
    sys.stdout.flush()
    child = os.fork()
    if not child:
        before = psutil.Process().memory_info().rss
        stage = setup.backend.load_stage(setup, *shard(strategy, rank), 1)
        print(psutil.Process().memory_info().rss - before, flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_each_of_two_ranks_holds_at_most_60_percent(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    create_checkpoint(checkpoint, family="mistral", size=SHAPE, dtype="bfloat16")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(checkpoint)],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    alone, *ranks = map(int, done.stdout.split())
    assert alone > 150_000_000
    assert len(ranks) == 4
    assert max(ranks) <= 0.6 * alone, (alone, ranks)
