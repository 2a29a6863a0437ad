"""The dialect of OpenAI: chat completions and text completions."""

from __future__ import annotations
