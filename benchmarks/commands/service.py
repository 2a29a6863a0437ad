"""`python -m benchmarks service`: time to first token and decode speed of a `tandem up`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from tandem.cli.options import DEFAULT_MODEL, Json, ModelOption
from tandem.cli.output import print_json, print_plain, print_table

if TYPE_CHECKING:
    from benchmarks.service import ServiceReport


def service(
    model: ModelOption = DEFAULT_MODEL,
    providers: Annotated[int, typer.Option(min=1, help="Providers of it.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = 4,
    requests: Annotated[int, typer.Option(min=1, help="Requests in all.")] = 16,
    prompt_words: Annotated[int, typer.Option(min=1, help="Words of a prompt.")] = 32,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    json: Json = False,
) -> None:
    """Measures time to first token and decode speed of a `tandem up`, through OpenAI's client.

    \b
    Examples:
      python -m benchmarks service
      python -m benchmarks service --concurrency 8 --requests 32 --model ./my-model --json
    """
    from benchmarks.service import Clients, measure_service, running_up

    clients = Clients(concurrency, requests, prompt_words, max_tokens)
    options = [f"--model={model}", f"--providers={providers}"]
    with running_up(*options, f"--max-sequences={max(32, concurrency)}") as ready:
        report = asyncio.run(measure_service(ready, clients))
    if json:
        print_json(report)
    else:
        _show(report)


def _show(report: ServiceReport) -> None:
    clients, ttft, decode = report.clients, report.ttft_ms, report.decode_tokens_per_s
    print_plain(f"{report.model}: {clients.requests} requests, {clients.concurrency} at a time")
    # The slow end of a speed is its low one; its p95 is what 5 % of the requests exceed.
    rows = [
        ["time to first token, ms", f"{ttft.p50:,.1f}", f"{ttft.p95:,.1f}"],
        ["decode, tokens/s a request", f"{decode.p50:,.1f}", f"{decode.p95:,.1f}"],
    ]
    print_table(["", "p50", "p95"], rows)
    print_plain(
        f"{report.completion_tokens:,} tokens in {report.elapsed_s:.1f} s:"
        f" {report.total_tokens_per_s:,.1f} tokens/s in all;"
        f" {report.prompt_tokens:,} prompt tokens"
    )
