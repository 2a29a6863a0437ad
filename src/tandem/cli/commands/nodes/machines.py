"""`tandem nodes list`, `approve` and `remove`: machines."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.commands.nodes.store import open_nodes, when
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain, printable, show_table

if TYPE_CHECKING:
    from tandem.coordinator import Node

#: So much of an id tells machines apart.
_SHOWN = 16

Which = Annotated[
    str,
    typer.Argument(
        help="Its id or the beginning of it, as `list` shows it; or its name, once it was let in."
    ),
]


def list_nodes(json: Json = False, data_dir: DataDir = None) -> None:
    """Lists the machines that were let in, that wait to be approved, and that were removed.

    \b
    Examples:
      tandem nodes list
      tandem nodes list --json | jq -r '.[] | select(.state == "pending") | .node_id'
    """
    with open_nodes(data_dir) as store:
        found = store.list()
    if json:
        print_json(found)
        return
    if not found:
        note("No machine has joined yet: `tandem nodes token` makes a token for one.")
        return
    rows = [
        [node.node_id[:_SHOWN], node.name or "-", node.account, node.state, when(node.since)]
        for node in found
    ]
    show_table(["NODE", "NAME", "ACCOUNT", "STATE", "SINCE"], rows)


def approve(
    node: Which,
    account: Annotated[
        str | None,
        typer.Option(help="Whose machine it is.", show_default="as before, or default"),
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Lets in a machine that waits: it joins at its next try, within seconds.

    Compare the id with what the machine itself shows.

    \b
    Examples:
      tandem nodes approve 3f2a9c
      tandem nodes approve 3f2a9c --account alice
    """
    with open_nodes(data_dir) as store:
        approved = store.approve(node, account)
    _tell(approved, "may join", as_json=json)


def remove(node: Which, json: Json = False, data_dir: DataDir = None) -> None:
    """Shuts a machine out, at once if it is connected, until it is approved again.

    A token that was made before lets it in no more. Who has its disk may show another id: revoke
    what `tandem nodes tokens` lists.

    \b
    Examples:
      tandem nodes remove gpu-box
    """
    with open_nodes(data_dir) as store:
        removed = store.remove(node)
        usable = [token.id for token in store.tokens() if token.is_usable(datetime.now(UTC))]
    _tell(removed, "is shut out", as_json=json)
    if usable:
        note(
            "Who has one of these join tokens may still come as another machine: "
            f"{', '.join(usable)} (`tandem nodes revoke-token`)."
        )


def _tell(node: Node, what: str, *, as_json: bool) -> None:
    if as_json:
        print_json(node)
        return
    name = printable(node.name) or "the machine"
    print_plain(f"{name} ({node.node_id[:_SHOWN]}) of {node.account!r} {what}.")
