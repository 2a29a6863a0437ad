"""Sums over the ranks of a session, and what carries tensors between them."""

from __future__ import annotations
