"""The messages between coordinator and provider, and how they are coded."""

from __future__ import annotations
