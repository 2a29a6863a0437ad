"""`python -m benchmarks attacks`: what another key notices of what one key or one stranger does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.options import Json
from tandem.cli.output import print_json, print_table, stderr

if TYPE_CHECKING:
    from benchmarks.attacks.measure import Outcome


def attacks(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ATTACK]...", help="Which ones; all of them.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="Alone, and under each attack.")] = 15,
    json: Json = False,
) -> None:
    """Measures another key's time to its first token under attacks, and the coordinator's memory.

    Fails when the median is three times as long as undisturbed, a request is lost, or the memory
    reaches 400 MB.

    \b
    Examples:
      python -m benchmarks attacks
      python -m benchmarks attacks "many samples" --seconds 30 --json
    """
    from benchmarks.attacks.measure import ATTACKS, measure_attack

    chosen = names or list(ATTACKS)
    if unknown := set(chosen) - set(ATTACKS):
        raise typer.BadParameter(f"{', '.join(unknown)}: none of {', '.join(ATTACKS)}")
    outcomes = []
    for name in chosen:
        stderr().print(f"{name} ...", highlight=False)
        outcomes.append(asyncio.run(measure_attack(name, seconds)))
    if json:
        print_json(outcomes)
    else:
        _show(outcomes)
    if not all(outcome.holds for outcome in outcomes):
        raise typer.Exit(1)


def _show(outcomes: list[Outcome]) -> None:
    rows = [
        [
            one.attack,
            f"{one.alone_ms:,.0f}",
            f"{one.under_ms:,.0f}",
            f"{one.ratio:.1f}",
            f"{one.worst_ms:,.0f}",
            f"{one.failed} of {one.asked}",
            f"{one.memory_mb:,.0f}",
            "PASS" if one.holds else "FAIL",
        ]
        for one in outcomes
    ]
    heads = ["first token, ms", "alone", "attacked", "ratio", "worst", "lost", "MB", ""]
    print_table(heads, rows)
