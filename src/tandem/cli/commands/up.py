"""`tandem up`: a coordinator and its providers on this machine, as one command.

Here are its options, the model's download and the session's API keys; `tandem.up` runs the rest.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem.cli.cluster_options import ParallelismOption, Ranks
from tandem.cli.discovery import Section
from tandem.cli.extras import require_torch_extra
from tandem.cli.failures import ExitCode
from tandem.cli.local_keys import session_keys
from tandem.cli.option_groups import arguments_of
from tandem.cli.options import (
    DEFAULT_MODEL,
    SPECULATE_WITHOUT_MODEL,
    DataDir,
    Host,
    ModelOptions,
    RequestTimeout,
)
from tandem.cli.output import note
from tandem.cli.tls_options import Tls, TlsOption
from tandem.client import exclusive
from tandem.coordinator import DEFAULT_REQUEST_TIMEOUT_S
from tandem.protocol.cluster import Parallelism
from tandem.runtime import DEFAULT_PORT, data_dir_or_default

if TYPE_CHECKING:
    from tandem.up import UpOptions

SECTION = Section.SERVE

_DEFAULT_START_TIMEOUT_S = 600.0


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How many providers serve it, where, and where the files are."""

    providers: Annotated[int, typer.Option(min=1, help="How many copies of the model.")] = 1
    ranks: Ranks = 1
    parallelism: ParallelismOption = Parallelism.AUTO
    host: Host = "127.0.0.1"
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The port; 0 takes a free one.",
            show_default=f"{DEFAULT_PORT}, or a free one",
        ),
    ] = None
    tls: TlsOption = Tls.OFF
    data_dir: DataDir = None
    request_timeout: RequestTimeout = DEFAULT_REQUEST_TIMEOUT_S
    start_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds until it must be able to serve.")
    ] = _DEFAULT_START_TIMEOUT_S


def up(
    model: ModelOptions,
    run: RunOptions,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line on stdout when ready.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show the processes' logs here as well.")
    ] = False,
) -> None:
    """Serves a model on this machine: one command, until Ctrl-C.

    \b
    Examples:
      tandem up
      tandem up --model Qwen/Qwen3-0.6B --quantize int8
      tandem up --model ./my-model --model-name mine --port 9000
      tandem up --providers 2 --json
      tandem up --ranks 2 --parallelism tp
      tandem up --model ./my-model --device cuda:1
      tandem up --host 0.0.0.0 --tls auto
    """
    require_torch_extra()
    options = up_options(model, run, verbose=verbose)
    with exclusive(options.data_dir):
        code = _serve(options, _models(model), as_json=json)
    raise typer.Exit(code)


def up_options(model: ModelOptions, run: RunOptions, *, verbose: bool) -> UpOptions:
    """What was typed, as `tandem.up` takes it."""
    from tandem.up import UpOptions, threads_per_provider

    ranks = 1 if run.parallelism is Parallelism.SINGLE else run.ranks
    threads = model.threads or threads_per_provider(run.providers * ranks)
    return UpOptions(
        provider_arguments=arguments_of(msgspec.structs.replace(model, threads=threads)),
        providers=run.providers,
        ranks=ranks,
        parallelism=run.parallelism,
        host=run.host,
        port=run.port,
        tls=run.tls.value,
        data_dir=data_dir_or_default(run.data_dir),
        request_timeout_s=run.request_timeout,
        start_timeout_s=run.start_timeout,
        verbose=verbose,
    )


def _serve(options: UpOptions, models: list[str], *, as_json: bool) -> ExitCode:
    from tandem.cli.up_screen import TerminalScreen
    from tandem.client import choose_port
    from tandem.coordinator import load_or_create_join_token
    from tandem.up import UpService, launch_plan, pair_nodes, prepare_logs

    port = choose_port(options.host, options.port)
    if port == 0 and options.port is None:
        note(f"Port {DEFAULT_PORT} is in use: taking a free one.")
    for model in models:
        _fetch_model(model)
    prepare_logs(options)
    pair_nodes(options)
    plan = launch_plan(options, port=port, join_token=load_or_create_join_token(options.data_dir))
    with session_keys(options.data_dir) as keys:
        screen = TerminalScreen(options, as_json=as_json)
        served = asyncio.run(UpService(options, plan, keys, screen).run())
    return ExitCode.OK if served else ExitCode.INTERRUPTED


def _models(options: ModelOptions) -> list[str]:
    """The one that is served, and the one that guesses for it."""
    draft = options.speculate
    return [options.model, *([] if draft in SPECULATE_WITHOUT_MODEL else [draft])]


def _fetch_model(model: str) -> None:
    """Downloads a model here, where its progress is seen, rather than in the providers.

    A folder and the shipped model need no download: the engine, and PyTorch with it, stays out of
    this process.
    """
    # Whatever is wrong with a name, `resolve_model` says.
    if model == DEFAULT_MODEL or os.path.isdir(os.path.expanduser(model)):  # noqa: PTH111, PTH112
        return
    from tandem.engine import resolve_model

    resolve_model(model)
