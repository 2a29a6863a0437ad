"""`tandem smoke`: whether two machines make a cluster that answers as one machine does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import typer

from tandem.cli.cluster_options import (
    ClusterListen,
    PeerAddresses,
    Rank,
    Ranks,
    pair_config,
)
from tandem.cli.discovery import Section
from tandem.cli.extras import require_torch_extra
from tandem.cli.failures import ExitCode
from tandem.cli.options import DEFAULT_MODEL, DataDir, Json, ModelOption
from tandem.cli.output import note, print_json, print_plain, printable
from tandem.runtime import data_dir_or_default
from tandem.up import other_rank_here

if TYPE_CHECKING:
    from tandem.cluster import Check, ClusterConfig

SECTION = Section.CLUSTER


def smoke(
    model: ModelOption = DEFAULT_MODEL,
    cluster_listen: ClusterListen = None,
    peer: PeerAddresses = None,
    ranks: Ranks = 2,
    rank: Rank = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Checks the link, the handshake, tensor parallel and pipeline against one process.

    Run it on both machines at the same time, after `tandem pair`. Without an address both ranks
    run on this machine.

    \b
    Examples:
      tandem smoke
      tandem smoke --cluster-listen 0.0.0.0:7700     on the one
      tandem smoke --peer 10.0.0.1:7700              on the other
    """
    require_torch_extra()
    if cluster_listen or peer:
        folder = data_dir_or_default(data_dir)
        config = pair_config(folder, cluster_listen, peer, ranks, rank)
        passed = _run(config, model, json=json)
    else:
        with other_rank_here("smoke", f"--model={model}", on_note=note) as (folder, address):
            passed = _run(pair_config(folder, address, None, 2, 0), model, json=json)
    raise typer.Exit(ExitCode.OK if passed else ExitCode.FAILURE)


def _run(config: ClusterConfig, model: str, *, json: bool) -> bool:
    from tandem import engine
    from tandem.cluster import check_cluster
    from tandem.runtime import configure_logging

    configure_logging("error")
    options = engine.EngineOptions(
        directory=engine.resolve_model(model),
        dtype="float32",
        device="cpu",  # which all machines have, and which gives the same tokens on all
        threads=1,
        kv_tokens=2048,
    )
    checks: list[Check] = []

    def on_check(check: Check) -> None:
        checks.append(check)
        if not json:
            _show(check)

    setup = engine.prepare(options)
    passed = asyncio.run(check_cluster(config, setup, engine.model_name(model), on_check))
    if json:
        print_json({"passed": passed, "checks": msgspec.to_builtins(checks)})
    else:
        print_plain("passed" if passed else "FAILED")
    return passed


def _show(check: Check) -> None:
    verdict = {True: "ok", False: "FAILED", None: "-"}[check.passed]
    print_plain(f"  {check.name:<20} {verdict:<7} {printable(check.detail)}")
