"""What the stores hold, as plain data: API keys with their limits, and one entry a request."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from tandem.protocol import Trust

#: Whose keys and machines are, where nobody has said otherwise.
DEFAULT_ACCOUNT = "default"
#: With whom machines are shared that every account may use; no account can be called so.
EVERYONE = "everyone"
#: Outcomes of a request beside the codes of errors; OPEN while it is under way.
OPEN, COMPLETED, CANCELLED, CRASHED = "open", "completed", "cancelled", "coordinator_crashed"


class KeyRole(StrEnum):
    """What a key is for: to ask models, or also to run the service (its machines, its figures)."""

    USER = "user"
    OPERATOR = "operator"


class CreatedKey(msgspec.Struct, frozen=True):
    """`key` is the secret itself, which is shown this once."""

    id: int
    name: str
    key: str


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a key may use, None for no limit, and the least trust of who may see its prompts.

    `budget_tokens` is for all of its life: prompts and answers together.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    budget_tokens: int | None = None
    min_trust: Trust = Trust.NONE


class KeyRecord(msgspec.Struct, frozen=True):
    """`account` is whose key it is; those that are `lenders` share their machines with it."""

    id: int
    name: str
    prefix: str
    created_at: datetime
    revoked_at: datetime | None
    account: str = DEFAULT_ACCOUNT
    limits: KeyLimits = KeyLimits()
    role: KeyRole = KeyRole.USER
    lenders: frozenset[str] = frozenset()


class Share(msgspec.Struct, frozen=True):
    """Requests of the `borrower`, an account or EVERYONE, may go to the `owner`'s machines."""

    owner: str
    borrower: str


class NodeState(StrEnum):
    """A machine's standing. What an operator has decided, only an operator changes."""

    PENDING = "pending"
    APPROVED = "approved"
    REMOVED = "removed"


class Node(msgspec.Struct, frozen=True):
    """A machine that has shown a certificate. `account` is its own from its first joining on."""

    node_id: str
    name: str
    account: str
    state: NodeState
    since: datetime = msgspec.field(default_factory=lambda: datetime.now(UTC))


class JoinToken(msgspec.Struct, frozen=True):
    """What lets machines of an account in. `uses_left` None is any number."""

    secret_hash: str
    account: str
    created_at: datetime
    expires_at: datetime | None
    uses_left: int | None
    revoked_at: datetime | None = None

    @property
    def id(self) -> str:
        """What people call it by: it tells nothing of the secret."""
        return self.secret_hash[:8]

    def is_usable(self, now: datetime) -> bool:
        expired = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not expired and self.uses_left != 0


class ShutOut(msgspec.Struct, frozen=True):
    """Node ids of machines that were removed, and hashes of tokens that were revoked."""

    nodes: frozenset[str]
    tokens: frozenset[str]


def owners_for(key: KeyRecord | None) -> frozenset[str]:
    """The accounts whose machines may serve requests that come with this key."""
    own = frozenset({account_of(key)})
    return own if key is None else own | key.lenders


def account_of(key: KeyRecord | None) -> str:
    """Whose request it is that came with this key, or with none where none is needed."""
    return DEFAULT_ACCOUNT if key is None else key.account


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Times are seconds from its admission; None for what did not come about.

    `outcome` is `completed`, `cancelled`, or the code of the error that the consumer got.
    """

    request_id: str
    started_at: datetime
    key_id: int | None
    account: str
    model: str
    outcome: str = OPEN
    provider: str | None = None
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    queue_s: float | None = None
    first_token_s: float | None = None
    total_s: float | None = None


class Total(msgspec.Struct, frozen=True):
    """A sum over entries. `failed` counts those that ended in an error."""

    key_id: int | None
    model: str
    requests: int
    failed: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int


class LedgerHealth(msgspec.Struct, frozen=True):
    """How many entries wait to be kept, and how many could not be and were set aside.

    `problem` says why nothing can be kept now, for whoever may ask; None while all is well.
    """

    waiting: int = 0
    set_aside: int = 0
    problem: str | None = None
