"""Each rank reads and holds its own slices only."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tandem.engine.families import Size
from tandem.engine.random_checkpoint import create_checkpoint

#: Half of its 100 million parameters are in layers, half in the embedding and the head.
SHAPE = Size(8, 768, 2048, 12, 6, 64, 32_000)
_MEASURE = """
import sys
from pathlib import Path
import psutil, torch
from tandem.engine import *
from tandem.engine.backends.pytorch.layers.linear import make_linear
from tandem.runtime import configure_logging
configure_logging("error")
strategy, rank, size = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
setup = prepare(EngineOptions(directory=Path(sys.argv[1]), dtype="bfloat16", threads=1))
layers = setup.config.num_layers
shard = whole(setup.config)
if strategy == "tp":
    shard = tensor_parallel(setup.config, rank, size)
if strategy == "pp":
    shard = pipeline_stage(setup.config, Span(layers * rank // size, layers * (rank + 1) // size))
class Group(Solo):
    pass
Group.rank, Group.size = rank, size
# What PyTorch and the compiled loops take on first use is no weight.
ones = torch.ones(64, 64, dtype=torch.bfloat16)
make_linear(ones, None, None)(ones[:1])
before = psutil.Process().memory_info().rss
stage = setup.backend.load_stage(setup, shard, Group(), 1)
print(psutil.Process().memory_info().rss - before)
"""


def _growth(checkpoint: Path, strategy: str, rank: int = 0, size: int = 1) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(checkpoint), strategy, str(rank), str(size)],
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return int(done.stdout)


def test_each_of_two_ranks_holds_at_most_60_percent(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model"
    create_checkpoint(checkpoint, family="mistral", size=SHAPE, dtype="bfloat16")
    alone = _growth(checkpoint, "local")
    assert alone > 150_000_000
    for strategy in ("tp", "pp"):
        for rank in range(2):
            assert _growth(checkpoint, strategy, rank, 2) <= 0.6 * alone, (strategy, rank)
