"""Measurements that anybody can repeat: real services, side by side in one run."""

from __future__ import annotations
