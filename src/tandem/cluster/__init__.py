"""Several machines as one provider: membership, plan, session, executors over sealed links."""

from __future__ import annotations
