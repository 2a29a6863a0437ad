"""`tandem nodes`: which machines may join the coordinator on this machine."""

from __future__ import annotations

import typer

from tandem.cli.commands.nodes import machines, tokens
from tandem.cli.discovery import Section

SECTION = Section.MANAGE

nodes = typer.Typer(
    help="Lets machines in, and shuts them out.", no_args_is_help=True, rich_markup_mode=None
)
nodes.command("list")(machines.list_nodes)
nodes.command()(machines.approve)
nodes.command()(machines.remove)
nodes.command()(tokens.token)
nodes.command()(tokens.tokens)
nodes.command("revoke-token")(tokens.revoke_token)
