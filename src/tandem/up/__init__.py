"""A coordinator and its providers as processes of this machine."""

from __future__ import annotations
