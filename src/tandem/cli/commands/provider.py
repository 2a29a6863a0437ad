"""`tandem provider`: loads a model and serves it for a coordinator, in the foreground."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.cluster_options import (
    STATUS_FILE,
    AllowPlaintext,
    ClusterListen,
    CollectivesChoice,
    CollectivesOption,
    Discover,
    ParallelismChoice,
    ParallelismOption,
    PeerAddresses,
    Rank,
    Ranks,
    Split,
    cluster_config,
)
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import (
    DEFAULT_MODEL,
    DataDir,
    Dtype,
    DtypeOption,
    KvTokens,
    Level,
    LogLevel,
    MaxSequences,
    ModelName,
    ModelOption,
    Quantize,
    StopOnStdinEof,
)
from tandem.cli.output import note, print_json
from tandem.client.address import websocket_url
from tandem.client.session import create_data_dir
from tandem.errors import ConfigurationError
from tandem.protocol import ModelInfo
from tandem.runtime.paths import data_dir_or_default

if TYPE_CHECKING:
    from tandem.security import DeviceKey

#: Computing yields to what else the machine does: its owner, and a coordinator beside it.
_NICENESS = 5
DEFAULT_MAX_SEQUENCES = 32
DEFAULT_DRAIN_TIMEOUT_S = 30.0


def provider(
    coordinator: Annotated[
        str, typer.Option(help="The coordinator's address, e.g. ws://192.168.1.10:8000.")
    ],
    join_token: Annotated[
        str | None,
        typer.Option(
            envvar="TANDEM_JOIN_TOKEN",
            help="The coordinator's join token; better in the variable.",
        ),
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    model_name: ModelName = None,
    name: Annotated[
        str | None,
        typer.Option(help="A label for this machine.", show_default="its host name"),
    ] = None,
    dtype: DtypeOption = Dtype.AUTO,
    quantize: Quantize = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads.", show_default="one a core")
    ] = None,
    kv_tokens: KvTokens = None,
    max_sequences: MaxSequences = DEFAULT_MAX_SEQUENCES,
    drain_timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds to finish what runs when told to stop.")
    ] = DEFAULT_DRAIN_TIMEOUT_S,
    ranks: Ranks = 1,
    cluster_listen: ClusterListen = None,
    peer: PeerAddresses = None,
    discover: Discover = None,
    parallelism: ParallelismChoice = ParallelismOption.AUTO,
    collectives: CollectivesChoice = CollectivesOption.SEALED,
    allow_plaintext_collectives: AllowPlaintext = False,
    rank: Rank = None,
    split: Split = None,
    device_key: Annotated[
        Path | None,
        typer.Option(help="A key that the machine's maker has certified (PEM), for attestation."),
    ] = None,
    device_chain: Annotated[
        Path | None, typer.Option(help="The certificates of that key (PEM), its own first.")
    ] = None,
    data_dir: DataDir = None,
    log_level: Level = LogLevel.INFO,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line on stdout when ready.")
    ] = False,
    stop_on_stdin_eof: StopOnStdinEof = False,
) -> None:
    """Serves a model through a coordinator.

    It connects out, and opens no port of its own unless it waits for the other ranks of a cluster.

    \b
    Examples:
      TANDEM_JOIN_TOKEN=... tandem provider --coordinator ws://192.168.1.10:8000
      tandem provider --coordinator localhost:8000 --model Qwen/Qwen3-0.6B --quantize int8
      tandem provider --coordinator wss://llm.example.org --model ./my-model --model-name mine
      tandem provider --coordinator localhost:8000 --ranks 2 --cluster-listen 10.0.0.1:7700
      tandem provider --coordinator 10.0.0.1:8000 --ranks 2 --peer 10.0.0.1:7700
    """
    if not join_token:
        raise ConfigurationError(
            "a provider needs the coordinator's join token: set TANDEM_JOIN_TOKEN"
        )
    url = websocket_url(coordinator)
    require_torch_extra()
    from tandem.provider import ProviderConfig, serve
    from tandem.runtime import Stop, configure_logging, run_service
    from tandem.security import load_or_create_identity

    configure_logging(log_level.value)
    os.nice(_NICENESS)
    folder = data_dir_or_default(data_dir)
    create_data_dir(folder)
    label = name or platform.node() or "provider"
    cluster = cluster_config(
        data_dir=folder,
        name=label,
        ranks=ranks,
        listen=cluster_listen,
        peers=peer,
        discover=discover,
        parallelism=parallelism,
        rank=rank,
        split=split,
        collectives=collectives,
        allow_plaintext=allow_plaintext_collectives,
    )
    config = ProviderConfig(
        coordinator_url=url,
        join_token=join_token,
        model=model,
        model_name=model_name,
        name=label,
        identity=load_or_create_identity(folder),
        device_key=_device_key(device_key, device_chain),
        dtype=dtype.value,
        quantize=quantize.value if quantize else None,
        threads=threads,
        kv_tokens=kv_tokens,
        max_sequences=max_sequences,
        drain_timeout_s=drain_timeout,
        cluster=cluster,
        status_path=folder / STATUS_FILE if cluster else None,
    )

    def on_ready(models: list[ModelInfo]) -> None:
        if json:
            from tandem.up.events import ProviderReady

            print_json(ProviderReady(models))
        else:
            note(f"Serving {', '.join(info.name for info in models)}. Ctrl-C stops it.")

    async def main(stop: Stop) -> None:
        await serve(config, stop, on_ready=on_ready)

    run_service(main, stop_on_stdin_eof=stop_on_stdin_eof)


def _device_key(key: Path | None, chain: Path | None) -> DeviceKey | None:
    if (key is None) != (chain is None):
        raise ConfigurationError("--device-key and --device-chain belong together")
    if key is None or chain is None:
        return None
    from tandem.security import DeviceKey

    return DeviceKey.load(key, chain)
