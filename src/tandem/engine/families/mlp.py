"""What follows attention in a layer: an MLP, or experts of which each token has some."""

from __future__ import annotations

import msgspec

from tandem.engine.checkpoint.layout import Axis, Division, Projection, TensorSpec, projection


class MLPTensors(msgspec.Struct, frozen=True):
    """Gate and up make the columns, which down takes."""

    gate: Projection
    up: Projection
    down: Projection


class PlainTensors(msgspec.Struct, frozen=True):
    """An MLP without gates: up makes the columns, which down takes."""

    up: Projection
    down: Projection


class ExpertTensors(msgspec.Struct, frozen=True):
    """MLPs of which a router chooses some for each token (Shazeer et al., 2017).

    Each of `experts` is on one tensor-parallel rank as a whole; `shared` is for all tokens, and
    multiplied by the sigmoid of its product with `shared_gate`, (1, hidden), if there is one.
    `correction`, (experts,), is added to what the router chooses by, and to nothing else.
    """

    router: Projection
    experts: tuple[MLPTensors, ...]
    shared: MLPTensors | None = None
    shared_gate: TensorSpec | None = None
    correction: TensorSpec | None = None


class ExpertGroups(msgspec.Struct, frozen=True):
    """Experts are in `count` groups of the same size, of which `chosen` are those a token may have.

    They are those whose `best` experts have the highest scores together.
    """

    count: int
    chosen: int
    best: int


class Routing(msgspec.Struct, frozen=True):
    """How a token's experts are chosen: the likeliest `top_k`, by a softmax of the router's logits.

    Their results are multiplied by their probabilities, whose sum is made 1 if `renormalised`:
    then it is all the same whether the softmax is of all experts or of the chosen ones. With
    `sigmoid` each has its own in place of the softmax; in the end all are multiplied by `scale`.
    """

    top_k: int
    renormalised: bool
    sigmoid: bool = False
    groups: ExpertGroups | None = None
    scale: float = 1.0


class GateClamp(msgspec.Struct, frozen=True):
    """Gates are kept below `limit`, and ups between it and its negative; then 1 is added to ups.

    Gates are multiplied by the sigmoid of `alpha` times themselves.
    """

    limit: float
    alpha: float


def mlp_tensors(
    prefix: str,
    columns: tuple[int, int],
    division: Division | None,
    *,
    bias: bool = False,
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> MLPTensors:
    """`columns` is the shape of gate and up, whose rows ranks divide by `division`."""
    gate, up, down = (prefix + name for name in names)
    return MLPTensors(
        gate=projection(gate, columns, bias=bias, rows=division),
        up=projection(up, columns, bias=bias, rows=division),
        down=projection(down, columns[::-1], bias=bias, columns=division),
    )


def plain_tensors(
    prefix: str, columns: tuple[int, int], *, bias: bool, names: tuple[str, str]
) -> PlainTensors:
    """`columns` is the shape of up, whose rows ranks share; `names` are those of up and down."""
    up, down = (prefix + name for name in names)
    division = Division(Axis.COLUMNS)
    return PlainTensors(
        up=projection(up, columns, bias=bias, rows=division),
        down=projection(down, columns[::-1], bias=bias, columns=division),
    )
