"""Weights that files keep in few bits a number."""

from __future__ import annotations
