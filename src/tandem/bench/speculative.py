"""What guessing tokens ahead gains and costs: off, from the text, from a draft model.

All variants take turns, on one rank and on two over a link of a given delay, with text that
repeats itself and with text that does not, a stream at a time and eight. Both ranks run it at the
same time, as `tandem.bench.cluster` does.

Where no models are named, a pair of random ones is made: the draft has the first layers of the
other, whose further layers add nothing. So the draft is always right, which tells the most that
one can gain; real ones are less often.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from tandem.cluster import Asker, ClusterConfig, measure_node, run_alone, run_clustered
from tandem.engine import EngineOptions, ModelSetup, Speculate, create_checkpoint, prepare
from tandem.protocol.cluster import Parallelism

OFF, LOOKUP, DRAFT = "off", "lookup", "draft"
ONE_RANK = "one rank"
CLUSTERS = {"tp": Parallelism.TENSOR, "pp": Parallelism.PIPELINE}
#: Of a pair's layers, those that say something.
_DRAFT_SHARE = 8
_KV_TOKENS = 16_384


class Text(msgspec.Struct, frozen=True):
    """`streams` answers at a time, greedy ones of a repeated prompt, or drawn ones of any."""

    name: str
    streams: int
    repeats: bool

    def prompts(self, salt: int) -> list[list[int]]:
        numbers = random.Random(f"{self.name} {salt}")  # noqa: S311 - guards nothing
        if self.repeats:
            return [numbers.choices(range(3, 200), k=8) * 4 for _ in range(self.streams)]
        return [numbers.choices(range(3, 200), k=32) for _ in range(self.streams)]


TEXTS = tuple(
    Text(f"{'repeated' if repeats else 'random'} text, {streams}", streams, repeats)
    for repeats in (True, False)
    for streams in (1, 8)
)


class SpeculativeJob(msgspec.Struct, frozen=True):
    """A model and its draft model, on disk; answers of so many tokens; a link's delay, one way."""

    model: Path
    draft: Path | None
    rounds: int
    tokens: int
    link_ms: float


class Taken(msgspec.Struct, frozen=True):
    """A text, once: new tokens a second, guesses, and those of them that were right."""

    tokens_per_s: float
    guessed: int
    right: int


class GuessFigure(msgspec.Struct, frozen=True):
    """Medians over the rounds; `ratio` is to the same without guesses."""

    ranks: str
    variant: str
    text: str
    tokens_per_s: float
    ratio: float
    guessed: int
    right: int


class SpeculativeReport(msgspec.Struct, frozen=True):
    model: str
    draft: str | None
    link_ms: float
    rounds: int
    figures: list[GuessFigure]


#: By ranks, variant and text.
_Measured = dict[tuple[str, str, str], Taken]


async def measure_speculative(
    config: ClusterConfig, job: SpeculativeJob, *, on_progress: Callable[[str], None]
) -> SpeculativeReport | None:
    """The report on rank 0; None on the others. Raises LinkLost when there is no session."""
    taken: list[_Measured] = []
    for number in range(job.rounds):
        work = partial(_measure, tokens=job.tokens, salt=number)
        measured: _Measured = {}
        for variant, way in _ways(job.draft).items():
            setup = _setup(job.model, way)
            for ranks in (*CLUSTERS, ONE_RANK):
                on_progress(f"round {number + 1} of {job.rounds}: {variant}, {ranks}")
                found = await _run(config, setup, ranks, work)
                measured |= {(ranks, variant, text): one for text, one in (found or {}).items()}
        taken.append(measured)
    if not taken[0]:
        return None
    name = None if job.draft is None else job.draft.name
    return SpeculativeReport(job.model.name, name, job.link_ms, job.rounds, _figures(taken))


def _ways(draft: Path | None) -> dict[str, Speculate | Path]:
    ways: dict[str, Speculate | Path] = {OFF: Speculate.OFF, LOOKUP: Speculate.LOOKUP}
    return ways if draft is None else ways | {DRAFT: draft}


async def _run(
    config: ClusterConfig, setup: ModelSetup, ranks: str, work: Callable[[Asker], dict[str, Taken]]
) -> dict[str, Taken] | None:
    """None above rank 0, which does nothing while one rank is measured."""
    if ranks == ONE_RANK:
        return None if config.rank else await asyncio.to_thread(run_alone, setup, work)
    facts = await asyncio.to_thread(measure_node, setup, "bench")
    session = msgspec.structs.replace(config, parallelism=CLUSTERS[ranks])
    found, _ = await run_clustered(session, setup, facts, work)
    return found


def _setup(model: Path, speculate: Speculate | Path) -> ModelSetup:
    return prepare(
        EngineOptions(
            directory=model, device="cpu", threads=1, kv_tokens=_KV_TOKENS, speculate=speculate
        )
    )


def _measure(asker: Asker, tokens: int, salt: int) -> dict[str, Taken]:
    assert asker.engine is not None, "an engine is started before it is asked"
    asker.ask([[5, 6, 7]], 4)  # the first steps pay for warming up
    taken = {}
    for text in TEXTS:
        before, began = asker.engine.stats(), time.perf_counter()
        asker.ask(text.prompts(salt), tokens, temperature=0.0 if text.repeats else 1.0)
        seconds, after = time.perf_counter() - began, asker.engine.stats()
        taken[text.name] = Taken(
            text.streams * tokens / seconds,
            after.guessed - before.guessed,
            after.guessed_right - before.guessed_right,
        )
    return taken


def _figures(rounds: list[_Measured]) -> list[GuessFigure]:
    def speed(ranks: str, variant: str, text: str) -> float:
        return statistics.median(one[ranks, variant, text].tokens_per_s for one in rounds)

    return [
        GuessFigure(
            *key,
            speed(*key),
            speed(*key) / speed(key[0], OFF, key[2]),
            sum(one[key].guessed for one in rounds),
            sum(one[key].right for one in rounds),
        )
        for key in rounds[0]
    ]


def create_pair(directory: Path, size: str) -> tuple[Path, Path]:
    """A random model, and a draft model of its first layers that always says the same."""
    from safetensors.torch import load_file, save_file

    model, draft = directory / size, directory / f"{size}-draft"
    create_checkpoint(model, family="llama", size=size, dtype="bfloat16")
    config = json.loads((model / "config.json").read_text())
    kept = max(1, config["num_hidden_layers"] // _DRAFT_SHARE)
    shutil.copytree(model, draft, ignore=shutil.ignore_patterns("*.safetensors*"))
    smaller = config | {"num_hidden_layers": kept}
    (draft / "config.json").write_text(json.dumps(smaller))
    for path in sorted(model.glob("*.safetensors")):
        tensors = load_file(path)
        for name in [name for name in tensors if _layer(name) >= kept]:
            if name.endswith(("o_proj.weight", "down_proj.weight")):
                tensors[name].zero_()
        save_file(tensors, path, metadata={"format": "pt"})
        first = {name: tensor for name, tensor in tensors.items() if _layer(name) < kept}
        save_file(first, draft / path.name, metadata={"format": "pt"})
    return model, draft


def _layer(name: str) -> int:
    """Of a tensor's name; -1 for those of no layer."""
    parts = name.split(".")
    return int(parts[2]) if parts[:2] == ["model", "layers"] else -1
