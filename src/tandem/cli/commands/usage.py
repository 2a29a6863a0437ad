"""`tandem usage`: what the coordinator's ledger on this machine holds."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.discovery import Section
from tandem.cli.local_keys import open_keys
from tandem.cli.options import DataDir, Json
from tandem.cli.output import note, print_json, show_table
from tandem.cli.spans import read_span
from tandem.errors import ConfigurationError
from tandem.runtime import create_data_dir, data_dir_or_default

if TYPE_CHECKING:
    from tandem.coordinator import Entry, Total

SECTION = Section.MANAGE


def usage(
    since: Annotated[
        str | None,
        typer.Option(
            help="A date, 2026-01-31, or a span until now: 90m, 24h, 7d, 4w.",
            show_default="the beginning",
        ),
    ] = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="Show the newest so many requests instead of sums.")
    ] = None,
    json: Json = False,
    data_dir: DataDir = None,
) -> None:
    """Shows how many tokens each key has used, by model.

    The ledger has one row a request, and no prompts or answers.

    \b
    Examples:
      tandem usage
      tandem usage --since 24h --json
      tandem usage --requests 20
    """
    from tandem.coordinator import stores_in

    folder = data_dir_or_default(data_dir)
    create_data_dir(folder)
    with closing(stores_in(folder).usage()) as ledger:
        if requests is not None:
            rows = ledger.entries(limit=requests)
            print_json(rows) if json else _show_requests(rows)
            return
        sums = ledger.totals(since=_moment(since))
    if json:
        print_json(sums)
        return
    with open_keys(folder) as store:
        names = {record.id: record.name for record in store.list()}
    _show_totals(sums, names)


def _show_totals(sums: list[Total], names: dict[int, str]) -> None:
    if not sums:
        note("No requests yet.")
        return
    figures = ["REQUESTS", "FAILED", "PROMPT", "CACHED", "COMPLETION"]
    cells = [
        [
            "-" if total.key_id is None else names.get(total.key_id, "?"),
            total.model,
            str(total.requests),
            str(total.failed),
            str(total.prompt_tokens),
            str(total.cached_tokens),
            str(total.completion_tokens),
        ]
        for total in sums
    ]
    show_table(["KEY", "MODEL", *figures], cells, figures=figures)


def _show_requests(rows: list[Entry]) -> None:
    if not rows:
        note("No requests yet.")
        return
    names, figures = ["MODEL", "PROVIDER", "OUTCOME"], ["IN", "OUT", "TRIES", "SECONDS"]
    cells = [
        [
            f"{row.started_at.astimezone():%Y-%m-%d %H:%M:%S}",
            row.model,
            row.provider or "-",
            row.outcome,
            str(row.prompt_tokens),
            str(row.completion_tokens),
            str(row.attempts),
            "-" if row.total_s is None else f"{row.total_s:.2f}",
        ]
        for row in rows
    ]
    show_table(["STARTED", *names, *figures], cells, folds=names, figures=figures)


def _moment(since: str | None) -> datetime | None:
    """Raises ConfigurationError."""
    if since is None:
        return None
    span = read_span(since)
    try:
        if span is not None:
            return datetime.now(UTC) - span
        return datetime.fromisoformat(since).astimezone()
    except (ValueError, OverflowError):  # or long before any calendar
        raise ConfigurationError(
            f"--since {since!r} is neither a date like 2026-01-31 nor a span like 24h or 7d"
        ) from None
