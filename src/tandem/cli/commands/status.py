"""`tandem status`: what a service can do now, for people and for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from tandem.cli.discovery import Section
from tandem.cli.failures import ExitCode
from tandem.cli.options import ClientTimeout, Json, ServiceOptions
from tandem.cli.output import note, print_json, print_plain, show_table

if TYPE_CHECKING:
    from tandem.client import ServiceStatus
    from tandem.protocol import ProviderStatus

SECTION = Section.USE

_DEFAULT_TIMEOUT_S = 10.0
#: A coordinator that stood still for longer was noticed by those who waited.
_LONG_STOP_S = 0.5


def status(
    service: ServiceOptions,
    json: Json = False,
    timeout: ClientTimeout = _DEFAULT_TIMEOUT_S,
) -> None:
    """Shows what a service serves; exits with 0 only when it can.

    \b
    Examples:
      tandem status
      tandem status --json | jq .ready
      tandem status --base-url http://192.168.1.10:8000 || echo "not serving"
    """
    from tandem.client import Client

    endpoint = service.endpoint()
    with Client(endpoint, timeout_s=timeout) as client:
        found = client.status()
    if json:
        print_json(found)
    else:
        _show(found)
    if not found.ready:
        raise typer.Exit(ExitCode.NOT_SERVING)


def _show(found: ServiceStatus) -> None:
    print_plain(f"{found.base_url}: {'ready' if found.ready else 'not able to serve now'}")
    if found.longest_stop_s >= _LONG_STOP_S:
        note(
            f"The coordinator stood still for {found.longest_stop_s:.1f} s within the last minute;"
            " its log says where."
        )
    if not found.providers:
        note(
            "No provider is connected: `tandem provider` connects one, and `tandem nodes list` on"
            " the service's machine shows those that wait to be let in."
        )
        return
    rows = [
        [
            provider.name,
            ", ".join(provider.models),
            provider.device or "-",
            _state(provider),
            str(provider.running),
            str(provider.waiting),
        ]
        for provider in found.providers
    ]
    show_table(["PROVIDER", "MODELS", "DEVICE", "STATE", "RUNNING", "WAITING"], rows)


def _state(provider: ProviderStatus) -> str:
    """A rank above 0 serves through rank 0, so it is not ready by itself."""
    if provider.cluster_role:
        return f"rank {provider.cluster_role}"
    if provider.draining:
        return "draining" if provider.in_flight else "drained"
    return "ready" if provider.ready else "not ready"
