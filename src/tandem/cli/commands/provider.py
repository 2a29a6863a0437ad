"""`tandem provider`: loads a model and serves it for a coordinator, in the foreground."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem.cli.cluster_options import STATUS_FILE, ClusterOptions, cluster_config
from tandem.cli.discovery import Section
from tandem.cli.extras import require_torch_extra
from tandem.cli.options import DataDir, Level, LogLevel, ModelOptions, StopOnStdinEof
from tandem.cli.output import note, print_json
from tandem.client import is_readable_on_the_way, websocket_url
from tandem.client import split_pin as split_address_pin
from tandem.errors import ConfigurationError
from tandem.protocol import ModelInfo
from tandem.provider import ProviderConfig
from tandem.runtime import (
    DRAIN_TIMEOUT_S,
    create_data_dir,
    data_dir_or_default,
    has_writable_home,
)

if TYPE_CHECKING:
    from tandem.security import DeviceKey

SECTION = Section.SERVE

#: Computing yields to what else the machine does: its owner, and a coordinator beside it.
_NICENESS = 5


class MachineOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Whose provider this is, and where its own files are."""

    coordinator: Annotated[
        str, typer.Option(help="The coordinator's address, e.g. ws://192.168.1.10:8000.")
    ]
    join_token: Annotated[
        str | None,
        typer.Option(
            envvar="TANDEM_JOIN_TOKEN",
            help="A join token of the coordinator, for the first time; better in the variable.",
            show_default="none: it waits to be approved",
        ),
    ] = None
    name: Annotated[
        str | None,
        typer.Option(help="A label for this machine.", show_default="its host name"),
    ] = None
    drain_timeout: Annotated[
        float, typer.Option(min=0.0, help="Seconds to finish what runs when told to stop.")
    ] = DRAIN_TIMEOUT_S
    device_key: Annotated[
        Path | None,
        typer.Option(help="A key that the machine's maker has certified (PEM), for attestation."),
    ] = None
    device_chain: Annotated[
        Path | None, typer.Option(help="The certificates of that key (PEM), its own first.")
    ] = None
    data_dir: DataDir = None


def provider(
    machine: MachineOptions,
    model: ModelOptions,
    cluster: ClusterOptions,
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
    from tandem.runtime import Stop, configure_logging, run_service

    config = provider_config(machine, model, cluster)
    configure_logging(log_level.value)
    if is_readable_on_the_way(config.coordinator_url):
        note("Without TLS the join token can be read on the way: see `tandem coordinator --tls`.")
    os.nice(_NICENESS)

    def on_ready(models: list[ModelInfo]) -> None:
        if json:
            from tandem.up import ProviderReady

            print_json(ProviderReady(models))
        else:
            note(f"Serving {', '.join(info.name for info in models)}. Ctrl-C stops it.")

    async def main(stop: Stop) -> None:
        from tandem.provider import serve

        await serve(config, stop, on_ready=on_ready)

    run_service(main, stop_on_stdin_eof=stop_on_stdin_eof)


def provider_config(
    machine: MachineOptions, model: ModelOptions, cluster: ClusterOptions
) -> ProviderConfig:
    """What was typed, as a provider takes it. Raises ConfigurationError for what is wrong."""
    from tandem.security import load_or_create_identity, split_pin

    join_token, pin = split_pin(machine.join_token or "")
    address, pin_of_address = split_address_pin(machine.coordinator)
    pin = pin or pin_of_address
    url = websocket_url(address, tls=pin is not None)
    require_torch_extra()
    folder = data_dir_or_default(machine.data_dir)
    create_data_dir(folder)
    if not has_writable_home():
        # numba keeps there what it compiles, and has no other place in a read-only installation.
        os.environ.setdefault("NUMBA_CACHE_DIR", str(folder / "compiled"))
    name = machine.name or platform.node() or "provider"
    in_cluster = cluster_config(cluster, data_dir=folder, name=name)
    return ProviderConfig(
        coordinator_url=url,
        join_token=join_token,
        coordinator_pin=pin,
        model=model.model,
        model_name=model.model_name,
        name=name,
        identity=load_or_create_identity(folder),
        device_key=_device_key(machine.device_key, machine.device_chain),
        dtype=model.dtype,
        quantize=model.quantize,
        kv_cache=model.kv_cache,
        device=model.device,
        threads=model.threads,
        kv_tokens=model.kv_tokens,
        speculate=model.speculate,
        max_sequences=model.max_sequences,
        drain_timeout_s=machine.drain_timeout,
        cluster=in_cluster,
        status_path=folder / STATUS_FILE if in_cluster else None,
    )


def _device_key(key: Path | None, chain: Path | None) -> DeviceKey | None:
    if (key is None) != (chain is None):
        raise ConfigurationError("--device-key and --device-chain belong together")
    if key is None or chain is None:
        return None
    from tandem.security import DeviceKey

    return DeviceKey.load(key, chain)
