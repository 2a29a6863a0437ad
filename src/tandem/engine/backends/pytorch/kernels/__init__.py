"""Loops for CPUs, and the races that choose between them and oneDNN."""

from __future__ import annotations
