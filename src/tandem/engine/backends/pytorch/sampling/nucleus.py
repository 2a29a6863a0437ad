"""Where top_p ends (Holtzman et al., 2020), without sorting a vocabulary for every token."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

#: top_p is searched among this many likeliest tokens before the whole vocabulary is looked at.
_NUCLEUS = 256
#: What is left of a float32 without it: its sign, exponent and seven bits more.
_RANGE_SHIFT = 16


def nucleus_floors(probabilities: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """The smallest probability in each row's nucleus, (rows, 1).

    `probabilities` are (rows, vocabulary), not all of a row zero, `top_p` (rows, 1); all float32.
    """
    # One by one: the order in which a row is summed must not depend on how many there are.
    targets = top_p * torch.stack([row.sum() for row in probabilities])[:, None]
    likeliest = probabilities.topk(min(_NUCLEUS, probabilities.shape[-1])).values
    inside = likeliest.cumsum(dim=-1) >= targets
    floors = likeliest.gather(-1, inside.int().argmax(dim=-1, keepdim=True))
    for row, found in enumerate(inside[:, -1].tolist()):
        if not found:
            floors[row] = wide_nucleus_floor(probabilities[row].cpu().numpy(), float(targets[row]))
    return floors


def wide_nucleus_floor(probabilities: npt.NDArray[np.float32], target: float) -> float:
    """The same of one row where the nucleus is wide.

    Positive floats are ordered as their bits are. So the first bits say in which narrow range the
    target is reached, and only that range is sorted.
    """
    ranges = probabilities.view(np.uint32) >> _RANGE_SHIFT
    masses = np.bincount(ranges, weights=probabilities)
    reached = masses[::-1].cumsum()[::-1]  # by a range and all above it
    enough = np.flatnonzero((reached >= target) & (masses > 0.0))
    if not len(enough):
        return float(probabilities[probabilities > 0.0].min())  # rounding: all of it is inside
    found = enough[-1]
    values = np.sort(probabilities[ranges == found])[::-1]
    above = reached[found] - masses[found]
    index = int((above + values.cumsum(dtype=np.float64) >= target).argmax())
    return float(values[index])
