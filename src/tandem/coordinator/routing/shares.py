"""How much of a model each API key has had: a counter of tokens a key, all that fairness needs.

Virtual token counters (Sheng et al., OSDI 2024): whoever has had least is next. A request is
charged with its estimate when it gets a place, with more as soon as it has used more, and with
what it used in the end. A key that comes back with nothing waiting is lifted to where the others
are, so nobody saves up turns by being away; what it has had too much of it still owes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

#: Keys and models that are remembered; the ones asked for longest ago are forgotten first, but for
#: keys that have something waiting.
_MAX_KEYS, _MAX_MODELS = 4096, 1024


class Share:
    """What one key has had of one model, in tokens."""

    def __init__(self) -> None:
        self.used = 0
        #: How often it was lifted: of what was charged before nothing is given back.
        self.lifts = 0
        #: The level when it last came back: it never has had less.
        self._floor = 0
        #: Called when it has become less, by whoever keeps keys in order.
        self.on_less: dict[object, Callable[[], None]] = {}

    def lift(self, level: int) -> None:
        """It comes back after having had nothing to ask for."""
        self._floor = max(self._floor, level)
        if self.used < level:
            self.used = level
            self.lifts += 1

    def charge(self, tokens: int) -> Charge:
        """A request of so many tokens, by all that is known, gets its place."""
        self.used += tokens
        return Charge(self, tokens)

    def give_back(self, tokens: int) -> None:
        self.used = max(self.used - tokens, self._floor)
        for told in self.on_less.values():
            told()


class Charge:
    """One request's tokens in its key's share."""

    def __init__(self, share: Share, tokens: int) -> None:
        self._share = share
        self._tokens = tokens
        self._lifts = share.lifts

    def at_least(self, used: int) -> None:
        """The request has used so many until now."""
        more = max(0, used - self._tokens)
        self._tokens += more
        self._share.used += more

    def settle(self, used: int) -> None:
        """The request has ended, and used so many in all."""
        self.at_least(used)
        left, self._tokens = self._tokens - used, used
        if left and self._share.lifts == self._lifts:
            self._share.give_back(left)


class ModelShares:
    """The shares of one model's keys. `level` is where newcomers begin."""

    def __init__(self) -> None:
        self.level = 0
        self._shares: OrderedDict[str, Share] = OrderedDict()

    def of(self, key: str) -> Share:
        share = self._shares.get(key)
        if share is None:
            share = self._shares[key] = Share()
            self._forget()
        self._shares.move_to_end(key)
        return share

    def has_others(self, key: str) -> bool:
        """Whether another key has asked for the model lately."""
        return len(self._shares) > (key in self._shares)

    def _forget(self) -> None:
        """Those asked for longest ago with nothing waiting; who waits comes after the others."""
        for _ in range(len(self._shares) - 1):  # never the newest
            if len(self._shares) <= _MAX_KEYS:
                return
            key, share = self._shares.popitem(last=False)
            if share.on_less:
                self._shares[key] = share

    def raise_level(self, level: int) -> None:
        self.level = max(self.level, level)


class Shares:
    """The shares of all models that were asked for lately."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, ModelShares] = OrderedDict()

    def of(self, model: str) -> ModelShares:
        shares = self._models.setdefault(model, ModelShares())
        self._models.move_to_end(model)
        while len(self._models) > _MAX_MODELS:
            self._models.popitem(last=False)
        return shares
