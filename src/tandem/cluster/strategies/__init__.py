"""How several ranks run one step: tensor parallel, or as a pipeline."""

from __future__ import annotations
