"""Spans of time as people type them: 30m, 24h, 7d, 2w."""

from __future__ import annotations

import re
from datetime import timedelta

_SPAN = re.compile(r"(?P<count>[0-9]{1,6})(?P<unit>[mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def read_span(text: str) -> timedelta | None:
    """None for what is no span."""
    span = _SPAN.fullmatch(text)
    return None if span is None else timedelta(**{_UNITS[span["unit"]]: int(span["count"])})
