"""The characters that byte-level vocabularies write bytes as (GPT-2, 2019)."""

from __future__ import annotations


def _byte_alphabet() -> dict[str, int]:
    """Printable bytes are themselves; the others follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    mapping = {chr(byte): byte for byte in printable}
    return mapping | {chr(256 + offset): byte for offset, byte in enumerate(others)}


BYTE_OF = _byte_alphabet()
