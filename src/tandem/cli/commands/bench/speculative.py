"""`tandem bench speculative`: what guessing tokens ahead gains and costs."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.bench_options import Checkpoint, Rounds, Size
from tandem.cli.cluster_options import PeerAddresses, Rank, pair_config, parse_address
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_table
from tandem.runtime import data_dir_or_default
from tandem.up import other_rank_here

if TYPE_CHECKING:
    from tandem.bench import SpeculativeJob, SpeculativeReport
    from tandem.cluster import ClusterConfig

Draft = Annotated[
    str | None, typer.Option(help="A draft model.", show_default="one that is always right")
]
Tokens = Annotated[int, typer.Option(min=2, max=768, help="Tokens of an answer.")]
LinkMs = Annotated[float, typer.Option(min=0.0, help="Milliseconds to the other rank, one way.")]


def speculative(
    model: Checkpoint = None,
    draft: Draft = None,
    size: Size = "300m",
    rounds: Rounds = 3,
    tokens: Tokens = 96,
    link_ms: LinkMs = 1.0,
    peer: PeerAddresses = None,
    rank: Rank = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Compares decoding without guesses, with prompt lookup, and with a draft model.

    On one rank and on two of this machine, tensor parallel and as a pipeline, with a link that is
    as slow as asked for. Text that repeats itself, and text that does not.

    \b
    Examples:
      tandem bench speculative
      tandem bench speculative --size 1b --link-ms 5 --json
      tandem bench speculative --model ./large --draft ./small
    """
    require_torch_extra()
    from tandem.bench import delayed_port

    if peer:  # the other rank, which was started below
        job = _job(Path(model or ""), Path(draft) if draft else None, rounds, tokens, link_ms)
        host, port = parse_address(peer[0], "--peer")
        with delayed_port(host, port, link_ms / 1e3) as slow:
            near = [f"127.0.0.1:{slow}"]
            _measure(pair_config(data_dir_or_default(data_dir), None, near, 2, rank), job)
        return
    with tempfile.TemporaryDirectory(prefix="tandem-bench-") as folder:
        job = _job(*_models(Path(folder), model, draft, size), rounds, tokens, link_ms)
        command = ("bench", "speculative", *_as_arguments(job))
        with other_rank_here(*command, on_note=note) as (own, address):
            report = _measure(pair_config(own, address, None, 2, 0), job)
    assert report is not None, "rank 0 reports"
    if json:
        print_json(report)
    else:
        _show(report)


def _job(
    model: Path, draft: Path | None, rounds: int, tokens: int, link_ms: float
) -> SpeculativeJob:
    from tandem.bench import SpeculativeJob

    return SpeculativeJob(model, draft, rounds, tokens, link_ms)


def _as_arguments(job: SpeculativeJob) -> list[str]:
    """What the other rank is told."""
    said = [f"--model={job.model}", f"--rounds={job.rounds}", f"--tokens={job.tokens}"]
    return [*said, f"--link-ms={job.link_ms}", *([f"--draft={job.draft}"] if job.draft else [])]


def _models(
    folder: Path, model: str | None, draft: str | None, size: str
) -> tuple[Path, Path | None]:
    from tandem.bench import create_pair
    from tandem.engine import resolve_model

    if model is not None:
        return resolve_model(model), None if draft is None else resolve_model(draft)
    note(f"Writing random weights of size {size} ...")
    return create_pair(folder, size)


def _measure(config: ClusterConfig, job: SpeculativeJob) -> SpeculativeReport | None:
    from tandem.bench import measure_speculative
    from tandem.runtime import configure_logging

    configure_logging("error")
    return asyncio.run(measure_speculative(config, job, on_progress=note))


def _show(report: SpeculativeReport) -> None:
    rows = [
        [
            figure.ranks,
            figure.text,
            figure.variant,
            f"{figure.tokens_per_s:.1f}",
            f"{figure.ratio:.2f}",
            f"{figure.right} of {figure.guessed}" if figure.guessed else "",
        ]
        for figure in report.figures
    ]
    print_table(["", "", "guesses", "tokens/s", "ratio", "right"], rows)
