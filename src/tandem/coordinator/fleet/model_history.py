"""Which models providers have named, and when one was last served."""

from __future__ import annotations

from collections.abc import Iterable

from tandem.protocol import ModelName

#: Names that are remembered after their last provider has gone: for them 503, not 404.
_MAX_REMEMBERED = 4096
_NEVER = float("-inf")


class ModelHistory:
    """Times are the caller's monotonic seconds."""

    def __init__(self) -> None:
        self._served_at: dict[str, float] = {}

    def saw(self, models: Iterable[ModelName], now: float, *, served: bool) -> None:
        """A provider names these models, and serves them now or not yet."""
        for name in models:
            if served:
                self._served_at[name] = now
            elif len(self._served_at) < _MAX_REMEMBERED:
                self._served_at.setdefault(name, _NEVER)

    def knows(self, model: str) -> bool:
        """Whether any provider has ever named this model."""
        return model in self._served_at

    def served_at(self, model: ModelName) -> float:
        """When a provider last said that it is ready for the model; minus infinity for never."""
        return self._served_at.get(model, _NEVER)
