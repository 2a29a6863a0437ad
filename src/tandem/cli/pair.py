"""`tandem pair`: two machines learn each other's identity, once."""

from __future__ import annotations

import asyncio
import platform
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.cluster_options import parse_address
from tandem.cli.console import note, print_json, print_plain, printable
from tandem.cli.options import DataDir, Json, data_dir_or_default
from tandem.cli.session import create_data_dir
from tandem.errors import ConfigurationError

if TYPE_CHECKING:
    from tandem.security import Identity, PairedNode


def pair(
    address: Annotated[
        str | None,
        typer.Argument(help="HOST:PORT of the machine that runs `tandem pair --listen`."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="HOST:PORT to wait for the other machine on.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="What the other machine calls this one.", show_default="its host name"),
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Pairs this machine with another: both show a code, and you say whether it is the same.

    Only paired machines form clusters.

    \b
    Examples:
      tandem pair --listen 0.0.0.0:7701     on the one
      tandem pair 10.0.0.1:7701             on the other
    """
    if (address is None) == (listen is None):
        raise ConfigurationError(
            "run `tandem pair --listen HOST:PORT` on one machine and `tandem pair HOST:PORT` on"
            " the other"
        )
    from tandem.security import PairedNodes, load_or_create_identity

    folder = data_dir_or_default(data_dir)
    create_data_dir(folder)
    identity = load_or_create_identity(folder)
    own_name = name or platform.node() or "node"
    node = asyncio.run(_pair(identity, own_name, address, listen))
    PairedNodes(folder).add(node)
    if json:
        print_json({"node_id": node.node_id, "name": node.name})
    else:
        print_plain(f"Paired with {printable(node.name)} ({node.node_id[:16]}).")


async def _pair(
    identity: Identity, name: str, address: str | None, listen: str | None
) -> PairedNode:
    from tandem.link.pairing import pair_by_dialling, pair_by_listening

    if address is not None:
        return await pair_by_dialling(identity, name, parse_address(address, "ADDRESS"), _confirm)

    def on_listening(port: int) -> None:
        note(f"Waiting on port {port}. On the other machine: tandem pair THIS_MACHINE:{port}")

    where = parse_address(listen or "", "--listen")
    return await pair_by_listening(identity, name, where, _confirm, on_listening)


async def _confirm(code: str, peer: str) -> bool:
    """Asks the person, on a thread of its own: the connection stays alive meanwhile."""
    question = f"{printable(peer)} and this machine show {code[:3]} {code[3:]}. The same on both?"
    try:
        return await asyncio.to_thread(typer.confirm, question, err=True)
    except typer.Abort:
        return False
