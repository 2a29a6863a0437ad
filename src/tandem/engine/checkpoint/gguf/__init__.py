"""GGUF, llama.cpp's format: a whole model in one file, or in the parts of one."""

from __future__ import annotations
