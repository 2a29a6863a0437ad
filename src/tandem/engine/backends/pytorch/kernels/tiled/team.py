"""Runs a compiled function on as many threads as PyTorch uses, which are PyTorch's own.

PyTorch brings an OpenMP library, whose threads wait for work, spinning at first. Entering it
by its own name costs a few microseconds; a second pool would fight with it for the cores.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

_ARGUMENTS = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]


def threads_for(pieces: int) -> int:
    """How many threads so many pieces of work are divided among."""
    return max(1, min(pieces, torch.get_num_threads())) if _parallel() else 1


def entry(function: int, threads: int) -> Callable[[int], None]:
    """What calls the C function at the address, with an address, once on each thread.

    It returns when all have. Others may run Python meanwhile.
    """
    parallel = _parallel()
    if threads == 1 or parallel is None:
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p)(function)
    return lambda argument: parallel(function, argument, threads, 0)


def parallel_address() -> int | None:
    """Of the function that `entry` calls, for compiled code to call; None without one."""
    parallel = _parallel()
    return None if parallel is None else ctypes.cast(parallel, ctypes.c_void_p).value


@cache
def _parallel() -> Any:  # noqa: ANN401 - what ctypes finds in a library
    """OpenMP's, of GNU or LLVM, under the name that GNU's compiler calls; None without one."""
    package = Path(torch.__file__).parent
    folders = (package / "lib", package.parent / "torch.libs")
    names = ("libgomp*", "libomp*", "libiomp*")
    for path in (path for folder in folders for name in names for path in folder.glob(name)):
        entry = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if entry is not None:
            entry.argtypes, entry.restype = _ARGUMENTS, None
            return entry
    return None
