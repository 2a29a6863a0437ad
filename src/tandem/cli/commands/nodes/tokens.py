"""`tandem nodes token`, `tokens` and `revoke-token`: what lets new machines in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.commands.nodes.store import open_nodes, when
from tandem.cli.local_keys import address_and_pin
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, print_plain, show_table
from tandem.cli.spans import read_span
from tandem.errors import ConfigurationError
from tandem.runtime import data_dir_or_default

if TYPE_CHECKING:
    from tandem.coordinator import JoinToken

_NEVER, _ANY = "never", "any"


def token(
    account: Annotated[str, typer.Argument(help="Whose machines it lets in.")] = "default",
    expires: Annotated[
        str, typer.Option(help="How long it can be used: 30m, 1h, 7d, or never.")
    ] = "1h",
    uses: Annotated[
        str, typer.Option(help="How many machines it lets in: a number, or any.")
    ] = "1",
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Makes a join token and prints it, this once. A machine needs it the first time only.

    \b
    Examples:
      tandem nodes token
      tandem nodes token alice --expires 1d
      tandem nodes token --uses 20
    """
    from tandem.security import with_pin

    with open_nodes(data_dir) as store:
        made, secret = store.create_token(account, lasts=_lasts(expires), uses=_uses(uses))
    secret = with_pin(secret, address_and_pin(data_dir_or_default(data_dir))[1])
    if json:
        print_json(_shown(made) | {"join_token": secret})
        return
    print_plain(secret)
    note(f"Lets in {_left(made)} of {account!r}, until {when(made.expires_at)} (id {made.id}).")


def tokens(json: Json = False, data_dir: DataDir = None) -> None:
    """Lists the join tokens that can still be used.

    \b
    Examples:
      tandem nodes tokens
    """
    with open_nodes(data_dir) as store:
        usable = [token for token in store.tokens() if token.is_usable(datetime.now(UTC))]
    if json:
        print_json([_shown(token) for token in usable])
        return
    if not usable:
        note("No join token can be used: `tandem nodes token` makes one.")
        return
    rows = [
        [made.id, made.account, when(made.created_at), when(made.expires_at), _left(made)]
        for made in usable
    ]
    show_table(["ID", "ACCOUNT", "CREATED", "UNTIL", "LETS IN"], rows)
    for made in usable:
        if made.expires_at is None and made.uses_left is None:
            note(
                f"{made.id} lets anybody in who has it, for ever: `tandem nodes revoke-token"
                f" {made.id}` ends it, and the machines that joined stay."
            )


def revoke_token(
    token: Annotated[str, typer.Argument(help="Its id, as `tokens` shows it, or the token.")],
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Ends a join token. Machines that joined with it and have a certificate stay.

    \b
    Examples:
      tandem nodes revoke-token 5be9d2c1
    """
    from tandem.security import split_pin

    with open_nodes(data_dir) as store:
        revoked = store.revoke_token(split_pin(token)[0])
    if json:
        print_json({"id": revoked.id, "account": revoked.account})
        return
    print_plain(f"Revoked {revoked.id}.")


def _shown(token: JoinToken) -> dict[str, object]:
    return {
        "id": token.id,
        "account": token.account,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "uses_left": token.uses_left,
    }


def _lasts(expires: str) -> timedelta | None:
    if expires == _NEVER:
        return None
    span = read_span(expires)
    if span is None:
        raise ConfigurationError(f"--expires {expires!r} is no span like 30m, 1h or 7d, nor never")
    return span


def _uses(text: str) -> int | None:
    if text == _ANY:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 6):
        raise ConfigurationError(f"--uses {text!r} is neither a number of machines nor any")
    return int(text)


def _left(token: JoinToken) -> str:
    if token.uses_left is None:
        return "any number of machines"
    return f"{token.uses_left} machine{'' if token.uses_left == 1 else 's'}"
