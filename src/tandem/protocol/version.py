"""Where a provider meets its coordinator, and in which version: the highest that both speak."""

from __future__ import annotations

from collections.abc import Sequence

from tandem.errors import ProtocolError

CONNECT_PATH = "/v1/providers/connect"
SUPPORTED_VERSIONS: tuple[int, ...] = (2,)


def choose_version(offered: Sequence[int]) -> int:
    """The highest version both sides speak. Raises ProtocolError naming both lists when none is."""
    common = set(offered) & set(SUPPORTED_VERSIONS)
    if not common:
        ours = ", ".join(map(str, SUPPORTED_VERSIONS))
        theirs = ", ".join(map(str, offered)) or "none"
        raise ProtocolError(
            f"no common protocol version: the provider offers {theirs}, we speak {ours}"
        )
    return max(common)
