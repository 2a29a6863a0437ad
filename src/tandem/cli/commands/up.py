"""`tandem up`: a coordinator and its providers on this machine, as one command.

The processes are supervised in `supervisor`; here are the options, the session's API key, the
check that requests are answered, the signals, and the order in which it all begins and ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.cluster_options import ParallelismChoice, ParallelismOption, Ranks
from tandem.cli.commands.keys import SESSION_KEY_NAME, open_key_store
from tandem.cli.commands.provider import DEFAULT_MAX_SEQUENCES
from tandem.cli.extras import require_torch_extra
from tandem.cli.failures import ExitCode
from tandem.cli.options import (
    DEFAULT_MODEL,
    DataDir,
    Dtype,
    DtypeOption,
    Host,
    KvTokens,
    MaxSequences,
    ModelName,
    ModelOption,
    Quantize,
    RequestTimeout,
)
from tandem.cli.output import note
from tandem.client.session import exclusive
from tandem.coordinator.config import DEFAULT_REQUEST_TIMEOUT_S
from tandem.runtime.paths import data_dir_or_default
from tandem.runtime.ports import DEFAULT_PORT

if TYPE_CHECKING:
    from tandem.coordinator import KeyStore
    from tandem.up.launch import UpOptions

_DEFAULT_START_TIMEOUT_S = 600.0


def up(
    model: ModelOption = DEFAULT_MODEL,
    model_name: ModelName = None,
    dtype: DtypeOption = Dtype.AUTO,
    quantize: Quantize = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="CPU threads a provider.", show_default="an equal share"),
    ] = None,
    kv_tokens: KvTokens = None,
    max_sequences: MaxSequences = DEFAULT_MAX_SEQUENCES,
    providers: Annotated[int, typer.Option(min=1, help="How many copies of the model.")] = 1,
    ranks: Ranks = 1,
    parallelism: ParallelismChoice = ParallelismOption.AUTO,
    host: Host = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="The port; 0 takes a free one.",
            show_default=f"{DEFAULT_PORT}, or a free one",
        ),
    ] = None,
    data_dir: DataDir = None,
    request_timeout: RequestTimeout = DEFAULT_REQUEST_TIMEOUT_S,
    start_timeout: Annotated[
        float, typer.Option(min=1.0, help="Seconds until it must be able to serve.")
    ] = _DEFAULT_START_TIMEOUT_S,
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
    """
    from tandem.up.launch import UpOptions

    require_torch_extra()
    options = UpOptions(
        model=model,
        model_name=model_name,
        dtype=dtype.value,
        quantize=quantize.value if quantize else None,
        threads=threads,
        kv_tokens=kv_tokens,
        max_sequences=max_sequences,
        providers=providers,
        ranks=1 if parallelism is ParallelismOption.SINGLE else ranks,
        parallelism=parallelism.value,
        host=host,
        port=port,
        data_dir=data_dir_or_default(data_dir),
        request_timeout_s=request_timeout,
        start_timeout_s=start_timeout,
        verbose=verbose,
    )
    with exclusive(options.data_dir):
        code = _serve(options, as_json=json)
    raise typer.Exit(code)


def _serve(options: UpOptions, *, as_json: bool) -> ExitCode:
    from tandem.cli.up_terminal import Terminal
    from tandem.client.address import choose_port
    from tandem.coordinator import load_or_create_join_token
    from tandem.up.launch import make_plan, pair_nodes, prepare_logs
    from tandem.up.service import UpService

    port = choose_port(options.host, options.port)
    if port == 0 and options.port is None:
        note(f"Port {DEFAULT_PORT} is in use: taking a free one.")
    _fetch_model(options.model)
    prepare_logs(options)
    pair_nodes(options)
    plan = make_plan(options, port=port, join_token=load_or_create_join_token(options.data_dir))
    with _session_key(options.data_dir) as api_key:
        screen = Terminal(options, as_json=as_json)
        served = asyncio.run(UpService(options, plan, api_key, screen).run())
    return ExitCode.OK if served else ExitCode.INTERRUPTED


def _fetch_model(model: str) -> None:
    """Downloads a model here, where its progress is seen, rather than in the providers.

    A folder and the shipped model need no download: the engine, and PyTorch with it, stays out of
    this process.
    """
    if model == DEFAULT_MODEL or Path(model).expanduser().is_dir():
        return
    from tandem.engine.checkpoint.hub import resolve_model

    resolve_model(model)


@contextmanager
def _session_key(data_dir: Path) -> Iterator[str]:
    """An API key that lives as long as the session. Keys of sessions that were killed go first."""
    with open_key_store(data_dir) as store:
        _revoke_session_keys(store)
        key = store.create(SESSION_KEY_NAME).key
    try:
        yield key
    finally:
        with open_key_store(data_dir) as store:
            _revoke_session_keys(store)


def _revoke_session_keys(store: KeyStore) -> None:
    for record in store.list():
        if record.name == SESSION_KEY_NAME and record.revoked_at is None:
            store.revoke(str(record.id))
