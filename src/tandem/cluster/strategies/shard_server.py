"""What a rank above 0 does: receive a plan, run its part, until the session ends."""

from __future__ import annotations

import msgspec
import structlog

from tandem.cluster.strategies.base import RankWork
from tandem.engine import StepPlan
from tandem.errors import LinkLost, ProtocolError, TandemError
from tandem.link import Channel
from tandem.protocol.cluster import FailureHeader, PlanHeader, ToRank

log = structlog.get_logger(__name__)

_decoder = msgspec.msgpack.Decoder(StepPlan)


class ShardServer:
    """Serves one session on its own thread; `run` returns when the session has ended."""

    def __init__(self, work: RankWork, to_first: Channel) -> None:
        self._work = work
        self._to_first = to_first
        self._last_step = 0

    def run(self) -> TandemError:
        """Why it ended: a lost link, a broken protocol, or the model's failure on a step."""
        try:
            while True:
                # Between requests there may be nothing to do for days; pings watch the peer.
                header, payload = self._to_first.receive(patient=True)
                self._work.run(self._plan(header, payload))
        except TandemError as error:
            return self._ended(error)
        # The one boundary to arbitrary model code: it must not take the provider down.
        except Exception as error:
            log.exception("shard_failed")
            return self._ended(LinkLost(f"this rank failed on a step: {error!r}"))

    def _plan(self, header: ToRank, payload: bytearray) -> StepPlan:
        if not isinstance(header, PlanHeader):
            raise ProtocolError(f"{header} came; a plan was due")
        if header.step != self._last_step + 1:
            raise ProtocolError(f"step {header.step} came; step {self._last_step + 1} was due")
        self._last_step = header.step
        try:
            plan = _decoder.decode(payload)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"the plan of step {header.step} is malformed: {error}") from error
        if plan.step != header.step:
            raise ProtocolError(f"the plan of step {plan.step} came as step {header.step}")
        return plan

    def _ended(self, error: TandemError) -> TandemError:
        try:
            self._to_first.send(FailureHeader(error.code, error.message))
        except LinkLost:
            log.info("session_link_gone", reason=error.message)
        self._to_first.abort()
        return error
