"""How many files and sockets this process may have open at once."""

from __future__ import annotations

import resource

#: Where the hard limit says "any number", the kernel has one of its own, which it does not tell.
#: macOS refuses more than this many.
_UNLIMITED = 10240


def raise_descriptor_limit() -> int:
    """Raises the soft limit to the hard one, and returns what holds now.

    Shells and service managers start processes with 1,024, macOS with 256: too few for a server,
    and there only for programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, _UNLIMITED)
    if soft == resource.RLIM_INFINITY:
        return _UNLIMITED
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (ValueError, OSError):
            return soft
    return wanted
