"""Tandem's coordinator beside another gateway, in front of the same backend."""

from __future__ import annotations
