"""How tokens are chosen from logits: bias and penalties, what is left out, and the draw."""

from __future__ import annotations
