"""`tandem accounts`: whose machines serve whom."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.discovery import Section
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain
from tandem.runtime import create_data_dir, data_dir_or_default

if TYPE_CHECKING:
    from tandem.coordinator import Shares

SECTION = Section.MANAGE

Owner = Annotated[str, typer.Argument(help="The account that has the machines.")]
Borrower = Annotated[
    str, typer.Option("--with", help="The account that may use them, or `everyone`.")
]

accounts = typer.Typer(
    help="Says which accounts' machines serve which.", no_args_is_help=True, rich_markup_mode=None
)


@accounts.command("list")
def list_shares(json: Json = False, data_dir: DataDir = None) -> None:
    """Lists which accounts share their machines; all others keep theirs to themselves.

    \b
    Examples:
      tandem accounts list
      tandem accounts list --json
    """
    with _shares(data_dir) as shares:
        found = shares.list()
    if json:
        print_json(found)
        return
    if not found:
        note("Every account's requests go to its own machines only.")
    for share in found:
        print_plain(f"{share.owner} serves {share.borrower}")


@accounts.command()
def share(owner: Owner, borrower: Borrower, json: Json = False, data_dir: DataDir = None) -> None:
    """Lets another account's requests go to this one's machines, which then read its prompts.

    \b
    Examples:
      tandem accounts share default --with everyone
      tandem accounts share alice --with bob
    """
    from tandem.coordinator import Share

    made = Share(owner, borrower)
    with _shares(data_dir) as shares:
        shares.share(made)
    if json:
        print_json(made)
        return
    print_plain(f"The machines of {owner!r} serve {borrower!r}, too.")


@accounts.command()
def unshare(owner: Owner, borrower: Borrower, json: Json = False, data_dir: DataDir = None) -> None:
    """Ends a share: new requests go there no more, those under way end there.

    \b
    Examples:
      tandem accounts unshare alice --with bob
    """
    from tandem.coordinator import Share

    ended = Share(owner, borrower)
    with _shares(data_dir) as shares:
        shares.unshare(ended)
    if json:
        print_json(ended)
        return
    print_plain(f"The machines of {owner!r} no longer serve {borrower!r}.")


@contextmanager
def _shares(data_dir: Path | None) -> Iterator[Shares]:
    from tandem.coordinator import stores_in

    folder = data_dir_or_default(data_dir)
    create_data_dir(folder)
    with closing(stores_in(folder).shares()) as opened:
        yield opened
