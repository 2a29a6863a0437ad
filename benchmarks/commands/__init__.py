"""The command lines of the races; each imports what it measures when it runs."""

from __future__ import annotations
