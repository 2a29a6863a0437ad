"""`tandem bench cluster`: two ranks beside one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from tandem.cli.bench_options import Checkpoint, Rounds, Size, checkpoint
from tandem.cli.cluster_options import ClusterListen, PeerAddresses, Rank, Ranks, pair_config
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain, print_table
from tandem.runtime import data_dir_or_default
from tandem.up import other_rank_here

if TYPE_CHECKING:
    from tandem.bench import ClusterReport
    from tandem.cluster import ClusterConfig


def cluster(
    model: Checkpoint = None,
    size: Size = "1b",
    rounds: Rounds = 3,
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
    with checkpoint(model, size) as (directory, _):
        path = model or str(directory)
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


def _measure(config: ClusterConfig, model: str, rounds: int) -> ClusterReport | None:
    from tandem import engine
    from tandem.bench import measure_cluster
    from tandem.runtime import configure_logging

    configure_logging("error")
    directory = engine.resolve_model(model)
    options = engine.EngineOptions(
        directory=directory,
        device="cpu",
        threads=1,
        kv_tokens=16_384,
        speculate=engine.Speculate.OFF,  # random weights repeat themselves
    )
    setup, name = engine.prepare(options), engine.model_name(model)
    return asyncio.run(measure_cluster(config, setup, name, rounds=rounds, on_progress=note))


def _show(report: ClusterReport) -> None:
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
