"""Random numbers that depend on a key and a count alone: Philox 4x64-10 (Salmon et al., 2011).

The numbers are those of `numpy.random.Philox`, whose objects take longer to make than a number.
"""

from __future__ import annotations

_WORD, _BITS = 2**64 - 1, 64
_ROUNDS = 10
_MULTIPLIERS = 0xD2E7470EE14C6C93, 0xCA5A826395121157
_WEYL = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B
_MANTISSA_BITS = 53


def uniform(seed: int, choice: int, position: int) -> float:
    """A number in [0, 1), keyed by its arguments alone; they are not negative."""
    counter = position + 1  # numpy counts before it draws
    a, b, c, d = counter & _WORD, counter >> _BITS, 0, 0
    first_key, second_key = seed & _WORD, choice
    for _ in range(_ROUNDS):
        first, second = _MULTIPLIERS[0] * a, _MULTIPLIERS[1] * c
        a, b = (second >> _BITS) ^ b ^ first_key, second & _WORD
        c, d = (first >> _BITS) ^ d ^ second_key, first & _WORD
        first_key = (first_key + _WEYL[0]) & _WORD
        second_key = (second_key + _WEYL[1]) & _WORD
    return (a >> (_BITS - _MANTISSA_BITS)) / float(1 << _MANTISSA_BITS)
