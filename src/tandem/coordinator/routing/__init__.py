"""Who gets a request, and who waits for whom."""

from __future__ import annotations
