"""The ten load scenarios of the reference design, and three more: clusters, and kills."""

from __future__ import annotations

import msgspec


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """`providers` serve model A, `second` of them model B; `concurrency` requests at a time."""

    name: str
    providers: int
    users: int
    requests: int
    concurrency: int
    tokens: int
    second: int = 0
    prompt_bytes: int = 200
    stream: bool = True
    max_sequences: int = 32
    #: Ranks of one provider, and how they divide the model.
    ranks: int = 1
    parallelism: str = "single"
    kills: bool = False


def _scaling(providers: int) -> Scenario:
    return Scenario(
        name=f"{providers}-provider-scaling",
        providers=providers,
        users=5,
        requests=30,
        concurrency=10,
        tokens=32,
    )


def _cluster(parallelism: str) -> Scenario:
    return Scenario(
        name=f"2-rank-{parallelism}-cluster",
        providers=1,
        users=5,
        requests=30,
        concurrency=10,
        tokens=32,
        ranks=2,
        parallelism=parallelism,
    )


REFERENCE = (
    Scenario(
        name="1-provider-streaming", providers=1, users=1, requests=30, concurrency=5, tokens=64
    ),
    Scenario(
        name="1-provider-non-streaming",
        providers=1,
        users=1,
        requests=20,
        concurrency=5,
        tokens=64,
        stream=False,
    ),
    Scenario(
        name="7-provider-multi-model",
        providers=4,
        second=3,
        users=5,
        requests=50,
        concurrency=10,
        tokens=64,
    ),
    Scenario(
        name="3-provider-high-concurrency",
        providers=3,
        users=10,
        requests=60,
        concurrency=20,
        tokens=32,
    ),
    Scenario(
        name="1-provider-queue-saturation",
        providers=1,
        users=10,
        requests=40,
        concurrency=15,
        tokens=32,
        max_sequences=4,
    ),
    Scenario(
        name="3-provider-20-users", providers=3, users=20, requests=60, concurrency=10, tokens=32
    ),
    *(_scaling(providers) for providers in (1, 3, 5)),
    Scenario(
        name="3-provider-heavy-100conc-10kb",
        providers=3,
        users=20,
        requests=100,
        concurrency=100,
        tokens=32,
        prompt_bytes=10 * 1024,
    ),
)
SCENARIOS = (
    *REFERENCE,
    _cluster("tp"),
    _cluster("pp"),
    Scenario(
        name="3-provider-kills",
        providers=3,
        users=10,
        requests=200,
        concurrency=10,
        tokens=128,
        kills=True,
    ),
)
