"""Number formats of weights and states: these names stand for them everywhere."""

from __future__ import annotations

#: Bytes of one number.
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
