"""Races against other engines and gateways, and loads with simulated providers.

For whoever works on Tandem: none of it is in the wheel, and nothing in `tandem` imports it. What
a user asks of his own machines is `tandem bench`.
"""

from __future__ import annotations
