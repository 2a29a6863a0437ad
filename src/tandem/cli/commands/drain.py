"""`tandem drain`: takes a provider out of service without losing a request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.discovery import Section
from tandem.cli.failures import ExitCode
from tandem.cli.options import ClientTimeout, Json, ServiceOptions
from tandem.cli.output import note, print_json, print_plain, printable

if TYPE_CHECKING:
    from tandem.client import Client
    from tandem.protocol import Machine

SECTION = Section.MANAGE

_DEFAULT_TIMEOUT_S = 10.0
_DEFAULT_WAIT_S = 600.0
_POLL_S = 0.2


def drain(
    provider: Annotated[str, typer.Argument(help="Its name or id, as `tandem status` shows it.")],
    undo: Annotated[bool, typer.Option("--undo", help="Let it have requests again.")] = False,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for what runs there to end.")
    ] = _DEFAULT_WAIT_S,
    *,
    service: ServiceOptions,
    json: Json = False,
    timeout: ClientTimeout = _DEFAULT_TIMEOUT_S,
) -> None:
    """Sends a provider nothing new, and waits until what it has is done: then it can be stopped.

    It has requests again once it has restarted, or with --undo.

    \b
    Examples:
      tandem drain gpu-box && ssh gpu-box systemctl restart tandem-provider
      tandem drain gpu-box --wait 0
      tandem drain gpu-box --undo
    """
    from tandem.client import Client

    with Client(service.endpoint(), timeout_s=timeout) as client:
        machine = client.resume(provider) if undo else _drain(client, provider, wait)
    idle = undo or machine.in_flight == 0
    if json:
        print_json(machine)
    elif undo:
        print_plain(f"{printable(machine.name)} gets requests again.")
    elif idle:
        print_plain(f"{printable(machine.name)} is drained: it can be stopped.")
    else:
        note(f"{printable(machine.name)} still runs {machine.in_flight} requests.")
    if not idle:
        raise typer.Exit(ExitCode.FAILURE)


def _drain(client: Client, which: str, wait_s: float) -> Machine:
    deadline = time.monotonic() + wait_s
    machine = client.drain(which)
    told = machine.in_flight
    while machine.in_flight and time.monotonic() < deadline:
        if machine.in_flight != told or told == 0:
            told = machine.in_flight
            note(f"{told} requests still run there.")
        time.sleep(_POLL_S)
        found = [other for other in client.machines() if other.id == machine.id]
        if not found:
            break  # it has stopped by itself
        machine = found[0]
    return machine
