"""`tandem bench cluster`: two ranks beside one."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem.cli.cluster_options import ClusterListen, PeerAddresses, Rank, Ranks, pair_config
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain, print_table
from tandem.runtime.paths import data_dir_or_default
from tandem.up.local_cluster import other_rank_here

if TYPE_CHECKING:
    from tandem.bench.cluster import Report
    from tandem.cluster import ClusterConfig


def cluster(
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help="A checkpoint.", show_default="random weights of --size"
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="The size of the random checkpoint.")] = "1b",
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each variant takes.")] = 3,
    cluster_listen: ClusterListen = None,
    peer: PeerAddresses = None,
    ranks: Ranks = 2,
    rank: Rank = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Compares ranks with a core each, tensor parallel and pipeline, to one rank with a core.

    Without an address all ranks run on this machine.

    \b
    Examples:
      tandem bench cluster
      tandem bench cluster --model ./my-model --rounds 5 --json
      tandem bench cluster --cluster-listen 0.0.0.0:7700     on the one
      tandem bench cluster --peer 10.0.0.1:7700              on the other
    """
    require_torch_extra()
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        path = model or _random_model(Path(folder) / size, size)
        if cluster_listen or peer:
            own = data_dir_or_default(data_dir)
            config = pair_config(own, cluster_listen, peer, ranks, rank)
            report = _measure(config, path, rounds)
        else:
            options = (f"--model={path}", f"--rounds={rounds}")
            with other_rank_here("bench", "cluster", *options, on_note=note) as (own, address):
                report = _measure(pair_config(own, address, None, 2, 0), path, rounds)
    if report is None:
        return  # rank 0 reports
    if json:
        print_json(report)
    else:
        _show(report)


def _random_model(directory: Path, size: str) -> str:
    from tandem.engine.checkpoint.random_checkpoint import create_checkpoint

    note(f"Writing random weights of size {size} ...")
    create_checkpoint(directory, family="llama", size=size, dtype="bfloat16")
    return str(directory)


def _measure(config: ClusterConfig, model: str, rounds: int) -> Report | None:
    from tandem import engine
    from tandem.bench.cluster import measure_cluster
    from tandem.runtime import configure_logging

    configure_logging("error")
    directory = engine.resolve_model(model)
    options = engine.EngineOptions(directory=directory, threads=1, kv_tokens=16384)
    setup, name = engine.prepare(options), engine.model_name(model)
    return asyncio.run(measure_cluster(config, setup, name, rounds=rounds, on_progress=note))


def _show(report: Report) -> None:
    titles = ["tokens/s, in and out"]
    for figure in report.figures:
        titles += [figure.variant.upper(), "RATIO"]
    rows = []
    for workload in report.figures[0].tokens_per_s:
        row = [workload]
        for figure in report.figures:
            row.append(f"{figure.tokens_per_s[workload]:.2f}")
            row.append(f"{report.ratio(figure.variant, workload):.2f}")
        rows.append(row)
    print_table(titles, rows)
    parts = [
        [figure.variant.upper(), workload, *(f"{ms:.2f}" for ms in msgspec.structs.astuple(step))]
        for figure in report.figures
        for workload, step in figure.steps.items()
    ]
    print_plain("")
    print_table(["a step, ms", "", "compute", "link", "of it sealing", "scheduling"], parts)
