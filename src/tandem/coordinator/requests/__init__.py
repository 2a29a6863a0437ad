"""One request, from its admission to its end, over as many providers as it takes."""

from __future__ import annotations
