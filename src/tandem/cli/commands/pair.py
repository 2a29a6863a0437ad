"""`tandem pair`: two machines learn each other's identity, once."""

from __future__ import annotations

import asyncio
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.cluster_options import parse_address
from tandem.cli.discovery import Section
from tandem.cli.options import Json, ServiceOptions
from tandem.cli.output import note, print_json, print_plain, printable
from tandem.client import Endpoint
from tandem.errors import ConfigurationError, ProtocolError
from tandem.runtime import create_data_dir, data_dir_or_default

_COORDINATOR_TIMEOUT_S = 10.0

if TYPE_CHECKING:
    from tandem.security import Identity, PairedNode

SECTION = Section.CLUSTER


def pair(
    address: Annotated[
        str | None,
        typer.Argument(
            help="HOST:PORT of the machine that runs `tandem pair --listen`; with --account, the"
            " name of the one machine to pair with."
        ),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to wait for the other machine on.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What the other machine calls this one.", show_default="its host name"),
    ] = None,
    account: Annotated[
        bool,
        typer.Option(
            "--account", help="Pair with your account's machines, as the coordinator names them."
        ),
    ] = False,
    *,
    service: ServiceOptions,
    json: Json = False,
) -> None:
    """Pairs this machine with another: both show a code, and you say whether it is the same.

    Only paired machines form clusters. With --account nobody compares codes: the coordinator is
    trusted to name your machines, those that run `tandem provider` and are in no cluster. Run it
    on each of them.

    \b
    Examples:
      tandem pair --listen 0.0.0.0:7701     on the one
      tandem pair 10.0.0.1:7701             on the other
      tandem pair --account --base-url http://10.0.0.9:8000 --api-key sk-tandem-...
      tandem pair --account gpu-box
    """
    if account:
        _pair_account(address, service.endpoint(), service.data_dir, as_json=json)
        return
    if (address is None) == (listen is None):
        raise ConfigurationError(
            "run `tandem pair --listen HOST:PORT` on one machine and `tandem pair HOST:PORT` on"
            " the other"
        )
    from tandem.security import PairedNodes

    folder, identity = _own_identity(service.data_dir)
    own_name = name or platform.node() or "node"
    node = asyncio.run(_pair(identity, own_name, address, listen))
    PairedNodes(folder).add(node)
    if json:
        print_json({"node_id": node.node_id, "name": node.name})
    else:
        print_plain(f"Paired with {printable(node.name)} ({node.node_id[:16]}).")


def _pair_account(
    wanted: str | None, endpoint: Endpoint, data_dir: Path | None, *, as_json: bool
) -> None:
    from tandem.client import Client
    from tandem.security import PairedNode, PairedNodes, node_id_of, pem_of

    folder, identity = _own_identity(data_dir)
    with Client(endpoint, timeout_s=_COORDINATOR_TIMEOUT_S) as client:
        peers = client.cluster_peers()
    nodes = []
    for peer in peers:
        if peer.node_id == identity.node_id or wanted not in (None, peer.name):
            continue
        if node_id_of(peer.certificate) != peer.node_id:
            raise ProtocolError(f"the coordinator names {peer.name!r} with another's certificate")
        nodes.append(PairedNode(node_id_of(peer.certificate), peer.name, pem_of(peer.certificate)))
    if not nodes:
        raise ConfigurationError(
            "the coordinator names no other machine of this account that is in no cluster"
            + (f" and is called {wanted!r}" if wanted else "")
            + ": run `tandem provider` there first"
        )
    for node in nodes:
        PairedNodes(folder).add(node)
        if not as_json:
            print_plain(f"Paired with {printable(node.name)} ({node.node_id[:16]}).")
    if as_json:
        print_json([{"node_id": node.node_id, "name": node.name} for node in nodes])


def _own_identity(data_dir: Path | None) -> tuple[Path, Identity]:
    from tandem.security import load_or_create_identity

    folder = data_dir_or_default(data_dir)
    create_data_dir(folder)
    return folder, load_or_create_identity(folder)


async def _pair(
    identity: Identity, name: str, address: str | None, listen: str | None
) -> PairedNode:
    from tandem.link import pair_by_dialling, pair_by_listening

    if address is not None:
        return await pair_by_dialling(identity, name, parse_address(address, "ADDRESS"), _confirm)

    def on_listening(port: int) -> None:
        note(f"Waiting on port {port}. On the other machine: tandem pair THIS_MACHINE:{port}")

    where = parse_address(listen or "", "--listen", to_listen=True)
    return await pair_by_listening(identity, name, where, _confirm, on_listening)


async def _confirm(code: str, peer: str) -> bool:
    """Asks the person, on a thread of its own: the connection stays alive meanwhile."""
    question = f"{printable(peer)} and this machine show {code[:3]} {code[3:]}. The same on both?"
    try:
        return await asyncio.to_thread(typer.confirm, question, err=True)
    except typer.Abort:
        return False
