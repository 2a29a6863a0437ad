"""What comes to the coordinator's port: connections, and what each may cost before it is known."""

from __future__ import annotations
