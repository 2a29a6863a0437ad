"""`tandem keys`: API keys of the coordinator on this machine."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.discovery import Section
from tandem.cli.local_keys import SESSION_KEY_NAMES, address_and_pin, open_keys
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain, show_table
from tandem.errors import ConfigurationError
from tandem.protocol import Trust
from tandem.runtime import data_dir_or_default

if TYPE_CHECKING:
    from tandem.coordinator import KeyLimits

SECTION = Section.MANAGE

Account = Annotated[
    str, typer.Option(help="Whose key it is: its requests go to that account's machines.")
]


keys = typer.Typer(
    help="Creates, lists and revokes API keys.", no_args_is_help=True, rich_markup_mode=None
)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose key it is, or what for.")] = "default",
    account: Account = "default",
    requests_per_minute: Annotated[int | None, typer.Option(min=1, help="A limit.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(min=1, help="A limit, of prompts and answers together.")
    ] = None,
    concurrent: Annotated[
        int | None, typer.Option(min=1, help="How many requests at once.")
    ] = None,
    budget_tokens: Annotated[
        int | None, typer.Option(min=1, help="How many tokens in all of the key's life.")
    ] = None,
    min_trust: Annotated[
        Trust, typer.Option(help="The least trust of a machine that may see its prompts.")
    ] = Trust.NONE,
    operator: Annotated[
        bool, typer.Option("--operator", help="It also runs the service: status, metrics, drain.")
    ] = False,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Creates an API key and prints it, this once: only its hash is kept.

    \b
    Examples:
      tandem keys create alice
      export TANDEM_API_KEY=$(tandem keys create laptop)
      tandem keys create ci --json
      tandem keys create guest --requests-per-minute 20 --budget-tokens 100000
      tandem keys create lawyer --min-trust hardware
      tandem keys create admin --operator
    """
    if name in SESSION_KEY_NAMES:
        raise ConfigurationError(
            f"the name {name!r} is taken by `tandem up`, which revokes its keys: choose another"
        )
    from tandem.coordinator import KeyLimits, KeyRole

    folder = data_dir_or_default(data_dir)
    with open_keys(folder) as store:
        created = store.create(
            name,
            account=account,
            limits=KeyLimits(
                requests_per_minute=requests_per_minute,
                tokens_per_minute=tokens_per_minute,
                concurrent=concurrent,
                budget_tokens=budget_tokens,
                min_trust=min_trust,
            ),
            role=KeyRole.OPERATOR if operator else KeyRole.USER,
        )
    address, _ = address_and_pin(folder)
    if json:
        shown = {"id": created.id, "name": created.name, "key": created.key, "address": address}
        print_json(shown)
        return
    print_plain(created.key)
    note(f"Created {name!r} (id {created.id}). It is not shown again: store it now.")
    if address is not None:
        note(f"The service's address: {address}")


@keys.command("list")
def list_keys(json: Json = False, data_dir: DataDir = None) -> None:
    """Lists the keys; a key itself cannot be shown again.

    \b
    Examples:
      tandem keys list
      tandem keys list --json | jq -r '.[].name'
    """
    with open_keys(data_dir_or_default(data_dir)) as store:
        records = store.list()
    if json:
        print_json(records)
        return
    if not records:
        note("No keys yet: `tandem keys create NAME` makes one.")
        return
    rows = [
        [
            str(record.id),
            record.name,
            record.account,
            record.role,
            record.prefix,
            _day(record.created_at),
            _day(record.revoked_at),
            _limits(record.limits),
        ]
        for record in records
    ]
    whose, limits = ["NAME", "ACCOUNT"], "LIMITS"
    titles = ["ID", *whose, "ROLE", "KEY BEGINS", "CREATED", "REVOKED", limits]
    show_table(titles, rows, folds=[*whose, limits])


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
    with open_keys(data_dir_or_default(data_dir)) as store:
        record = store.revoke(key)
    if json:
        print_json(record)
        return
    print_plain(f"Revoked {record.name!r} (id {record.id}).")


def _limits(limits: KeyLimits) -> str:
    parts = {
        "requests/min": limits.requests_per_minute,
        "tokens/min": limits.tokens_per_minute,
        "at once": limits.concurrent,
        "tokens in all": limits.budget_tokens,
    }
    shown = [f"{value} {name}" for name, value in parts.items() if value is not None]
    if limits.min_trust != Trust.NONE:
        shown.append(f"trust {limits.min_trust}")
    return ", ".join(shown) or "-"


def _day(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone():%Y-%m-%d}"
