"""A client of the service's API, for commands, the console's tests and benchmarks."""

from __future__ import annotations
