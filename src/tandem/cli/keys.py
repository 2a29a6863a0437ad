"""`tandem keys`: API keys of the coordinator on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.console import note, print_json, print_plain, stdout
from tandem.cli.options import DataDir, Json, data_dir_or_default
from tandem.cli.session import create_data_dir
from tandem.errors import ConfigurationError

if TYPE_CHECKING:
    from tandem.coordinator import KeyStore

#: The name of the key that `tandem up` makes for its session, and revokes at the end.
SESSION_KEY_NAME = "up"

keys = typer.Typer(
    help="Creates, lists and revokes API keys.", no_args_is_help=True, rich_markup_mode=None
)


@contextmanager
def open_key_store(data_dir: Path) -> Iterator[KeyStore]:
    from tandem.coordinator import KeyStore

    create_data_dir(data_dir)
    store = KeyStore(data_dir)
    try:
        yield store
    finally:
        store.close()


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")] = "default",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Creates an API key and prints it, this once: only its hash is kept.

    \b
    Examples:
      tandem keys create alice
      export TANDEM_API_KEY=$(tandem keys create laptop)
      tandem keys create ci --json
    """
    if name == SESSION_KEY_NAME:
        raise ConfigurationError(
            f"the name {SESSION_KEY_NAME!r} is taken by `tandem up`, which revokes its keys:"
            " choose another"
        )
    with open_key_store(data_dir_or_default(data_dir)) as store:
        created = store.create(name)
    if json:
        print_json({"id": created.id, "name": created.name, "key": created.key})
        return
    print_plain(created.key)
    note(f"Created {name!r} (id {created.id}). It is not shown again: store it now.")


@keys.command("list")
def list_keys(json: Json = False, data_dir: DataDir = None) -> None:
    """Lists the keys; a key itself cannot be shown again.

    \b
    Examples:
      tandem keys list
      tandem keys list --json | jq -r '.[].name'
    """
    with open_key_store(data_dir_or_default(data_dir)) as store:
        records = store.list()
    if json:
        print_json(records)
        return
    if not records:
        note("No keys yet: `tandem keys create NAME` makes one.")
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("ID", "NAME", "KEY", "CREATED", "REVOKED"):
        table.add_column(column, no_wrap=True)
    for record in records:
        table.add_row(
            str(record.id),
            record.name,
            f"{record.prefix}...",
            _when(record.created_at),
            _when(record.revoked_at),
        )
    stdout().print(table)


@keys.command()
def revoke(
    key: Annotated[str, typer.Argument(help="Its id, its first characters, or its name.")],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Revokes a key: requests with it are refused from now on.

    \b
    Examples:
      tandem keys revoke alice
      tandem keys revoke sk-tandem-x1Y2
    """
    with open_key_store(data_dir_or_default(data_dir)) as store:
        record = store.revoke(key)
    if json:
        print_json(record)
        return
    print_plain(f"Revoked {record.name!r} (id {record.id}).")


def _when(moment: datetime | float | None) -> str:
    if moment is None:
        return "-"
    if not isinstance(moment, datetime):
        moment = datetime.fromtimestamp(moment, UTC)
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
