"""The command line, and nothing that computes: `commands` has a module a command.

Beside it: the program that they make (`program`, `discovery`), the options that several share
(`options`, `cluster_options`, `option_groups`), what is printed (`output`, `up_screen`), how one
fails (`failures`, `extras`), and this machine's keys (`local_keys`).
"""

from __future__ import annotations

from tandem.cli.program import app, main

__all__ = ["app", "main"]
