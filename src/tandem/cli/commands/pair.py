"""`tandem pair`: two machines learn each other's identity, once."""

from __future__ import annotations

import asyncio
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from tandem.cli.cluster_options import parse_address
from tandem.cli.discovery import Section
from tandem.cli.options import Json, ServiceOptions
from tandem.cli.output import note, print_json, print_plain, printable
from tandem.client import Endpoint, is_readable_on_the_way
from tandem.errors import ConfigurationError, ProtocolError
from tandem.protocol import ClusterPeer
from tandem.runtime import create_data_dir, data_dir_or_default

_COORDINATOR_TIMEOUT_S = 10.0

if TYPE_CHECKING:
    from tandem.security import Identity, PairedNode, PairedNodes

SECTION = Section.CLUSTER


class AccountOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How to pair with the machines that a coordinator names."""

    account: Annotated[
        bool,
        typer.Option(
            "--account", help="Pair with your account's machines, as the coordinator names them."
        ),
    ] = False
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Pair with all that it names, without a question.")
    ] = False
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure", help="Send the key over plain HTTP, and take it from the arguments."
        ),
    ] = False


def pair(
    context: typer.Context,
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
    show: Annotated[
        bool, typer.Option("--list", help="Show the machines that are paired with this one.")
    ] = False,
    remove: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="Trust a machine no more, by its name or node id."),
    ] = None,
    *,
    by_account: AccountOptions,
    service: ServiceOptions,
    json: Json = False,
) -> None:
    """Pairs this machine with another: both show a code, and you say whether it is the same.

    Only paired machines form clusters. With --account nobody compares codes: the coordinator is
    trusted to name your machines, those that run `tandem provider` and are in no cluster. Run it
    on each of them, with the API key in TANDEM_API_KEY.

    \b
    Examples:
      tandem pair --listen 0.0.0.0:7701     on the one
      tandem pair 10.0.0.1:7701             on the other
      tandem pair --account --base-url https://llm.example.org
      tandem pair --account gpu-box
      tandem pair --list
      tandem pair --remove gpu-box
    """
    asked = [way for way in (address or by_account.account, listen, show, remove) if way]
    if len(asked) != 1:
        raise ConfigurationError(
            "run `tandem pair --listen HOST:PORT` on one machine and `tandem pair HOST:PORT` on"
            " the other, or give one of --account, --list and --remove"
        )
    if by_account.account:
        source = context.get_parameter_source("api_key")
        key_is_typed = source is not None and source.name == "COMMANDLINE"
        endpoint = _safe_endpoint(service, by_account, key_is_typed=key_is_typed)
        paired = _pair_account(address, endpoint, service.data_dir, yes=by_account.yes)
    elif show:
        paired = _pairings(service.data_dir).all()
    elif remove:
        paired = [_remove(_pairings(service.data_dir), remove)]
    else:
        paired = [_pair_with_code(service.data_dir, name, address, listen)]
    _tell(paired, "" if show else "Removed " if remove else "Paired with ", as_json=json)


def _tell(nodes: list[PairedNode], what: str, *, as_json: bool) -> None:
    if as_json:
        print_json([{"node_id": node.node_id, "name": node.name} for node in nodes])
        return
    for node in nodes:
        print_plain(f"{what}{printable(node.name)} ({node.node_id[:16]})")
    if not nodes:
        note("No machine is paired with this one.")


def _pairings(data_dir: Path | None) -> PairedNodes:
    from tandem.security import PairedNodes

    return PairedNodes(data_dir_or_default(data_dir))


def _remove(pairings: PairedNodes, wanted: str) -> PairedNode:
    """A provider that runs on this folder ends its links to it within seconds."""
    node = pairings.find(wanted)
    pairings.remove(node.node_id)
    return node


def _pair_with_code(
    data_dir: Path | None, name: str | None, address: str | None, listen: str | None
) -> PairedNode:
    folder, identity = _own_identity(data_dir)
    own_name = name or platform.node() or "node"
    node = asyncio.run(_pair(identity, own_name, address, listen))
    _pairings(folder).add(node)
    return node


def _pair_account(
    wanted: str | None, endpoint: Endpoint, data_dir: Path | None, *, yes: bool
) -> list[PairedNode]:
    from tandem.client import Client

    folder, identity = _own_identity(data_dir)
    with Client(endpoint, timeout_s=_COORDINATOR_TIMEOUT_S) as client:
        peers = [
            peer
            for peer in client.cluster_peers()
            if peer.node_id != identity.node_id and wanted in (None, peer.name, peer.node_id)
        ]
    if not peers:
        raise ConfigurationError(
            "the coordinator names no other machine of this account that is in no cluster"
            + (f" and is called {wanted!r}" if wanted else "")
            + ": run `tandem provider` there first"
        )
    nodes = [_node_of(peer) for peer in peers]
    for peer in peers:
        note(f"{printable(peer.name)}: node {peer.node_id[:16]}, trust {peer.trust}")
    question = "Pair with it?" if len(peers) == 1 else f"Pair with these {len(peers)}?"
    if not yes and not _agrees(question):
        raise ConfigurationError("nothing was paired: say yes, or --yes")
    for node in nodes:
        _pairings(folder).add(node)
    return nodes


def _safe_endpoint(
    service: ServiceOptions, options: AccountOptions, *, key_is_typed: bool
) -> Endpoint:
    """Where to ask, with a key that nobody else on the machine or on the way reads.

    Raises ConfigurationError, unless that is allowed.
    """
    endpoint = service.endpoint()
    if not options.insecure:
        if is_readable_on_the_way(endpoint.base_url):
            raise ConfigurationError(
                f"{endpoint.base_url} is plain HTTP: whoever is on the way reads the API key, and"
                " may name machines of their own. Use https://, or --insecure on a network that"
                " only you reach"
            )
        if key_is_typed:
            raise ConfigurationError(
                "--api-key is shown to every user of this machine (`ps`): set TANDEM_API_KEY"
            )
    if endpoint.api_key is None and sys.stdin.isatty():
        key = typer.prompt("API key", hide_input=True, err=True)
        endpoint = msgspec.structs.replace(endpoint, api_key=key)
    return endpoint


def _node_of(peer: ClusterPeer) -> PairedNode:
    from tandem.security import PairedNode, node_id_of, pem_of

    if node_id_of(peer.certificate) != peer.node_id:
        raise ProtocolError(f"the coordinator names {peer.name!r} with another's certificate")
    return PairedNode(node_id_of(peer.certificate), peer.name, pem_of(peer.certificate))


def _agrees(question: str) -> bool:
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        return False


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
    return await asyncio.to_thread(_agrees, question)
