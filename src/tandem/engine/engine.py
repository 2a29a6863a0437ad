"""The engine: a thread that turns requests into events, one step at a time.

Callers submit and cancel from any thread; the thread drains those commands between steps, asks
the scheduler for a plan, runs it and delivers what came out through one callback. Nothing else
touches scheduler or executor, so they need no locks.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Protocol

import msgspec
import structlog

from tandem.engine.core.block_manager import BlockManager
from tandem.engine.core.executor import Executor
from tandem.engine.core.scheduler import BatchScheduler, Guesser, Sampled, SchedulerLimits
from tandem.engine.core.sequence import SamplingParams, Sequence
from tandem.engine.core.step import StepPlan
from tandem.engine.generation import (
    Aborted,
    Choice,
    EngineEvent,
    Generation,
    GenerationRequest,
    Prefilling,
)
from tandem.engine.limits import EngineLimits, check_request
from tandem.engine.text.detokenizer import StreamDetokenizer
from tandem.engine.text.stops import StopMatcher, StopStrings
from tandem.engine.text.tokenizer import Tokenizer
from tandem.errors import (
    ExecutorFailed,
    InternalError,
    InvalidRequest,
    Overloaded,
    RequestTimedOut,
    ServiceStopping,
    TandemError,
)

log = structlog.get_logger(__name__)


_TELL_EVERY_S = 5.0
_WARM_UP_TOKENS, _WARM_UP_TIMEOUT_S = 32, 60.0


class Clock(Protocol):
    def __call__(self) -> float: ...


class EngineStats(msgspec.Struct, frozen=True):
    """Sequences that run and wait, blocks of the KV cache, steps that have ended.

    `steps` stands still while work waits on a hung one. Of the tokens that were `guessed`, so many
    were right.
    """

    running: int = 0
    waiting: int = 0
    free_blocks: int = 0
    total_blocks: int = 0
    steps: int = 0
    guessed: int = 0
    guessed_right: int = 0


class Engine:
    """Owns the executor and closes it. `on_events` is called on the engine's thread."""

    def __init__(
        self,
        executor: Executor,
        tokenizer: Tokenizer,
        blocks: BlockManager,
        *,
        limits: EngineLimits,
        scheduling: SchedulerLimits,
        on_events: Callable[[Items[EngineEvent]], None],
        guesser: Guesser | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.limits = limits
        self.tokenizer = tokenizer
        self._executor = executor
        self._total_blocks = blocks.total
        self._scheduler = BatchScheduler(
            blocks, scheduling, stages=executor.stages, guesser=guesser
        )
        #: Steps, and when they were submitted.
        self._under_way: deque[tuple[StepPlan, float]] = deque()
        self._collected_at = 0.0
        self._max_waiting = scheduling.max_waiting
        self._on_events = on_events
        self._clock = clock
        self._generations: dict[str, Generation] = {}
        self._by_sequence: dict[int, Generation] = {}
        self._next_sequence_id = 0
        self._steps = 0
        self._tell_at = 0.0
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine")
        self._thread.start()

    def submit(self, request: GenerationRequest) -> None:
        """Queues a request. Raises as `check_request` does, and Overloaded, ServiceStopping."""
        choices = len(request.prompts) * request.samples
        if choices > self._max_waiting:
            raise InvalidRequest(
                f"{choices} choices in one request are more than the {self._max_waiting} that may "
                "wait here; ask for fewer at a time",
                param="n" if request.samples > 1 else "prompt",
            )
        checked = check_request(request, self.limits)
        with self._wake:
            if self._closing:
                raise ServiceStopping("the engine is stopping; retry elsewhere")
            if len(self._inbox) >= self._max_waiting:
                raise Overloaded("too many requests are waiting; retry later")
            self._inbox.append(lambda: self._start(checked))
            self._wake.notify()

    def warm_up(self) -> None:
        """Computes a short prompt of no request: what a first time costs, no consumer's pays.

        Blocks, a minute at most. A failure is logged, as that of any step, and shows again with
        the first request.
        """
        warm = threading.Event()
        with self._wake:
            if self._closing:
                return
            self._inbox.append(lambda: self._warm_up(warm))
            self._wake.notify()
        warm.wait(_WARM_UP_TIMEOUT_S)

    def cancel(self, request_id: str) -> None:
        """Drops a request before the next step; no further event of it is delivered after that."""
        with self._wake:
            self._inbox.append(lambda: self._drop(request_id))
            self._wake.notify()

    def stats(self) -> EngineStats:
        """A snapshot for heartbeats; it may be a step old."""
        scheduler = self._scheduler
        return EngineStats(
            scheduler.running,
            scheduler.waiting,
            scheduler.free_blocks,
            self._total_blocks,
            self._steps,
            scheduler.guessed,
            scheduler.guessed_right,
        )

    def close(self, timeout_s: float = 10.0) -> bool:
        """Aborts what is left and ends the thread; False when a step outlasts `timeout_s`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # From here on: the engine's thread only.

    def _run(self) -> None:
        while self._await_work():
            self._expire()
            try:
                self._submit_plans()
                if not self._under_way:
                    continue
                self._deliver(self._collect())
                self._tell_prefilled()
            # The one boundary to arbitrary model code: whatever it raises must not end the thread.
            except Exception as error:  # noqa: BLE001
                self._fail_all(error)
        for request_id in tuple(self._generations):
            self._abort(request_id, ServiceStopping("the engine stopped; retry elsewhere"))
        self._executor.close()

    def _collect(self) -> list[Sampled]:
        """The oldest step's tokens. It took the time since it, or the one before it, was there."""
        result = self._executor.collect()
        self._steps += 1
        plan, submitted_at = self._under_way.popleft()
        before, self._collected_at = self._collected_at, self._clock()
        seconds = self._collected_at - max(before, submitted_at)
        return self._scheduler.commit(plan, result, seconds)

    def _submit_plans(self) -> None:
        """As many steps as keep every stage of the executor busy."""
        while len(self._under_way) < self._executor.depth:
            plan = self._scheduler.schedule()
            if plan is None:
                return
            self._under_way.append((plan, self._clock()))
            self._executor.submit(plan)

    def _await_work(self) -> bool:
        """Runs the queued commands; waits while there is nothing to do. False: time to end."""
        with self._wake:
            while not (self._inbox or self._closing or self._generations or self._under_way):
                self._wake.wait()
            commands = tuple(self._inbox)
            self._inbox.clear()
        for command in commands:
            command()
        return not self._closing

    def _warm_up(self, warm: threading.Event) -> None:
        """Does nothing while requests run: the engine is warm then."""
        tokens = min(_WARM_UP_TOKENS, self.limits.room([]) - 1)
        try:
            if tokens > 0 and not self._generations and not self._under_way:
                self._run_alone(
                    Sequence(0, 0, 0, [0] * tokens, SamplingParams(max_tokens=1), tokens)
                )
        finally:
            warm.set()

    def _run_alone(self, sequence: Sequence) -> None:
        self._scheduler.add([sequence])
        try:
            while (plan := self._scheduler.schedule()) is not None:
                self._executor.submit(plan)
                self._scheduler.commit(plan, self._executor.collect())
                self._steps += 1
        # As in `_run`: the boundary to arbitrary model code.
        except Exception as error:  # noqa: BLE001
            self._scheduler.finish(sequence)
            self._fail_all(error)

    def _start(self, request: GenerationRequest) -> None:
        try:
            generation = self._generation(request)
            self._scheduler.add(generation.sequences())
        # Whatever a request does to us is that request's end, and nobody else's.
        except Exception as error:  # noqa: BLE001
            self._on_events([Aborted(request.request_id, _own_failure(error))])
            return
        self._generations[request.request_id] = generation
        self._by_sequence |= dict.fromkeys(generation.choices, generation)

    def _generation(self, request: GenerationRequest) -> Generation:
        generation = Generation(
            request.request_id, request.deadline, sum(map(len, request.prompts))
        )
        stops = StopStrings(request.stop)
        for prompt_index, prompt in enumerate(request.prompts):
            for sample in range(request.samples):
                choice = self._choice(request, stops, prompt, prompt_index, sample)
                if choice is not None:
                    generation.choices[choice.sequence.sequence_id] = choice
        return generation

    def _choice(
        self,
        request: GenerationRequest,
        stops: StopStrings,
        prompt: list[int],
        prompt_index: int,
        sample: int,
    ) -> Choice | None:
        self._next_sequence_id += 1
        first_id = self._next_sequence_id - sample
        index = prompt_index * request.samples + sample
        produced = request.produced[index] if request.produced else []
        if produced is None:
            return None
        params = msgspec.structs.replace(
            request.params, max_tokens=request.params.max_tokens or self.limits.room(prompt)
        )
        sequence = Sequence(
            self._next_sequence_id,
            first_id,
            sample,
            [*prompt, *produced],
            params,
            len(prompt),
            request.cache_scope,
        )
        detokenizer = StreamDetokenizer(self.tokenizer.decode)
        choice = Choice(index, sequence, detokenizer, StopMatcher(stops))
        choice.replay()
        return choice

    def _tell_prefilled(self) -> None:
        """Says of long prompts every few seconds how far they are: nobody takes them for stuck."""
        now = self._clock()
        if now < self._tell_at:
            return
        self._tell_at = now + _TELL_EVERY_S
        events: list[EngineEvent] = [
            Prefilling(generation.request_id, tokens)
            for generation in self._generations.values()
            if (tokens := generation.prefilled)
        ]
        if events:
            self._on_events(events)

    def _deliver(self, sampled: list[Sampled]) -> None:
        by_generation: defaultdict[str, list[Sampled]] = defaultdict(list)
        for entry in sampled:
            generation = self._by_sequence[entry.sequence.sequence_id]
            by_generation[generation.request_id].append(entry)
        events: list[EngineEvent] = []
        for request_id, entries in by_generation.items():
            generation = self._generations[request_id]
            produced = self._accept(generation, entries)
            events += produced
            for choice in generation.choices.values():
                if choice.finish is not None:
                    self._scheduler.finish(choice.sequence)
            if not isinstance(produced[-1], Aborted) and not generation.done:
                continue
            self._drop(request_id)
        if events:
            self._on_events(events)

    def _accept(self, generation: Generation, entries: list[Sampled]) -> list[EngineEvent]:
        try:
            return generation.accept(entries, self.tokenizer)
        # As in `_start`: tokens that cannot be made text end their request alone.
        except Exception as error:  # noqa: BLE001
            return [Aborted(generation.request_id, _own_failure(error))]

    def _expire(self) -> None:
        now = self._clock()
        for generation in tuple(self._generations.values()):
            if now >= generation.deadline:
                error = RequestTimedOut("the request's deadline passed; ask for less or retry")
                self._abort(generation.request_id, error)

    def _fail_all(self, error: Exception) -> None:
        """A step was lost: the cache of every sequence is in doubt, so none goes on."""
        known = error if isinstance(error, TandemError) else None
        # What we have a name for needs no traceback: a link broke.
        log.error("step_failed", error=repr(error), exc_info=None if known else error)
        for request_id in tuple(self._generations):
            self._abort(request_id, known or ExecutorFailed("the model failed on a step; retry"))
        self._under_way.clear()
        self._scheduler.void_cache()

    def _abort(self, request_id: str, error: TandemError) -> None:
        self._drop(request_id)
        self._on_events([Aborted(request_id, error)])

    def _drop(self, request_id: str) -> None:
        generation = self._generations.pop(request_id, None)
        if generation is None:
            return
        for sequence in generation.sequences():
            self._scheduler.finish(sequence)
            del self._by_sequence[sequence.sequence_id]


def _own_failure(error: Exception) -> TandemError:
    """What a request is told that met a defect; only the log has it whole."""
    if isinstance(error, TandemError):
        return error
    log.error("request_broke", error=type(error).__name__, exc_info=error)
    return InternalError("the engine failed on this request; its log has the reason")
