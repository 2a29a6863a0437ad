"""How large what is secret is made, so that its size does not tell what is in it.

Whoever listens sees the sizes of what is encrypted. Everything up to a step has the same one; what
is larger is told to an eighth at best.
"""

from __future__ import annotations

#: A piece of an answer fits with room to spare, its first and its last as well.
_STEP_BYTES = 256
#: Of a size's leading bits so many are told.
_TOLD_BITS = 4


def padded_size(size: int) -> int:
    """The size to which so many bytes are filled up: a step, or an eighth of a power of two."""
    step = max(_STEP_BYTES, 1 << max(0, size.bit_length() - _TOLD_BITS))
    return -(-size // step) * step
