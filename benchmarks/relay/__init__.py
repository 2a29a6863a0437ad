"""One coordinator between thousands of simulated providers and many streams."""

from __future__ import annotations
