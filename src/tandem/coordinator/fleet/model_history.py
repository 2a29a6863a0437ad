"""Which models the providers of which account have named, and when one was last served."""

from __future__ import annotations

from collections.abc import Iterable

from tandem.protocol import ModelName

#: Names that are remembered after their last provider has gone: for them 503, not 404.
_MAX_REMEMBERED = 4096
_NEVER = float("-inf")


class ModelHistory:
    """Times are the caller's monotonic seconds."""

    def __init__(self) -> None:
        #: By model, then by account.
        self._served_at: dict[str, dict[str, float]] = {}

    def saw(self, account: str, models: Iterable[ModelName], now: float, *, served: bool) -> None:
        """A provider of the account names these models, and serves them now or not yet."""
        for name in models:
            if not served and name not in self._served_at and self._is_full:
                continue
            by_account = self._served_at.setdefault(name, {})
            by_account[account] = now if served else by_account.get(account, _NEVER)

    def knows(self, model: str, owners: frozenset[str] | None = None) -> bool:
        """Whether any provider, of these accounts or any, has ever named this model."""
        by_account = self._served_at.get(model, {})
        return bool(by_account) if owners is None else not owners.isdisjoint(by_account)

    def served_at(self, model: ModelName, owners: frozenset[str]) -> float:
        """When a provider of these accounts last said that it is ready for the model.

        Minus infinity for never.
        """
        by_account = self._served_at.get(model, {})
        return max((by_account.get(owner, _NEVER) for owner in owners), default=_NEVER)

    @property
    def _is_full(self) -> bool:
        return len(self._served_at) >= _MAX_REMEMBERED
