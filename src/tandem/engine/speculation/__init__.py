"""Guesses at what sequences will say: where they come from, and how many are worth computing.

A guess costs a row of a step, and saves a step if it is right. Whether it is, the scheduler finds
out by sampling in its place (`tandem.engine.core.scheduler`), so guesses change no token.
"""

from __future__ import annotations

from tandem.engine.speculation.adaptive import AdaptiveGuesser
from tandem.engine.speculation.draft_model import DraftLimits, DraftModel
from tandem.engine.speculation.lookup import Lookup

__all__ = ["AdaptiveGuesser", "DraftLimits", "DraftModel", "Lookup"]
