"""`tandem version`: what is installed, without loading it."""

from __future__ import annotations

import platform
from importlib import metadata

from tandem import __version__
from tandem.cli.discovery import Section
from tandem.cli.options import Json
from tandem.cli.output import print_json, print_plain

SECTION = Section.LOOK

_PROVIDER_PACKAGE = "torch"


def version(json: Json = False) -> None:
    """Prints the versions of Tandem, Python and PyTorch.

    \b
    Examples:
      tandem version
      tandem version --json
    """
    try:
        torch = metadata.version(_PROVIDER_PACKAGE)
    except metadata.PackageNotFoundError:
        torch = None
    if json:
        print_json({"tandem": __version__, "python": platform.python_version(), "torch": torch})
        return
    print_plain(f"tandem {__version__}")
    print_plain(f"python {platform.python_version()} on {platform.platform()}")
    print_plain(f"torch {torch or 'not installed: this machine can coordinate, but not provide'}")
