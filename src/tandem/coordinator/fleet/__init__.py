"""Providers as the coordinator knows them."""

from __future__ import annotations
