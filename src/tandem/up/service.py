"""The running part of `tandem up`: signals, readiness, the session file, and the end."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractContextManager
from typing import Protocol

import httpx2
import msgspec

from tandem.client import (
    API_PATH,
    ModelList,
    NotServing,
    UpSession,
    remove_session,
    with_pin,
    write_session,
)
from tandem.runtime import Backoff
from tandem.security import PinnedContext
from tandem.up.events import UpReady
from tandem.up.launch import UpOptions
from tandem.up.supervisor import LaunchPlan, Reporter, Supervisor

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_PROBE_TIMEOUT_S = 5.0


class Screen(Reporter, AbstractContextManager[None], Protocol):
    """What a run tells the person or the script that started it, for as long as it lasts."""

    def ready(self, ready: UpReady) -> None:
        """Requests are answered from now on."""


class SessionKeys(msgspec.Struct, frozen=True):
    """API keys of one session: for clients, and for who runs it (this machine, and the console)."""

    user: str
    operator: str


class UpService:
    """One run of `tandem up`."""

    def __init__(
        self, options: UpOptions, plan: LaunchPlan, keys: SessionKeys, screen: Screen
    ) -> None:
        self._options = options
        self._keys = keys
        self._screen = screen
        self._supervisor = Supervisor(plan, screen)
        self._stop = asyncio.Event()
        self._forced = False
        self._served = False

    async def run(self) -> bool:
        """Serves until a signal; whether it had served, and then stopped in order.

        The signals are handled here rather than by `run_service`, whose second signal ends the
        process at once: ours has children to end first.
        """
        loop = asyncio.get_running_loop()
        for signum in _STOP_SIGNALS:
            loop.add_signal_handler(signum, self._on_signal)
        try:
            with self._screen:
                await self._supervisor.run(self._stop, self._on_started)
        finally:
            remove_session(self._options.data_dir)
        return self._served and not self._forced

    def _on_signal(self) -> None:
        if not self._stop.is_set():
            self._stop.set()
        elif not self._forced:
            self._forced = True
            self._screen.note("Killing everything.")
            self._supervisor.kill()

    async def _on_started(self, port: int) -> None:
        """Every process says that it is up: see for ourselves, then say so."""
        root_url, pin = self._options.url(port), self._options.pin
        models = await _served_models(root_url, pin, self._keys.user)
        base_url = root_url + API_PATH
        session = UpSession(with_pin(base_url, pin), self._keys.operator)
        write_session(self._options.data_dir, session)
        self._served = True
        self._screen.ready(
            UpReady(
                base_url,
                self._keys.user,
                self._keys.operator,
                models,
                self._supervisor.processes,
                self._options.certificate,
            )
        )


async def _served_models(root_url: str, pin: str | None, api_key: str) -> list[str]:
    """The models that a client with this key can use, once the coordinator says it is ready.

    The caller sets the deadline. The providers have said that they are ready; the coordinator
    may learn it a moment after us, and has no way to tell us, so this asks until it knows.
    """
    backoff = Backoff(base_s=0.05, cap_s=0.5)
    async with httpx2.AsyncClient(
        base_url=root_url,
        headers={"Authorization": f"Bearer {api_key}"},
        timeout=_PROBE_TIMEOUT_S,
        trust_env=False,  # a proxy of the environment is for the world outside
        verify=True if pin is None else PinnedContext(pin),
    ) as http:
        try:
            while (await http.get("/readyz")).status_code != httpx2.codes.OK:  # noqa: ASYNC110
                await asyncio.sleep(backoff.next_delay_s())
            response = (await http.get(f"{API_PATH}/models")).raise_for_status()
            served = msgspec.json.decode(response.content, type=ModelList)
        except (httpx2.HTTPError, msgspec.MsgspecError) as error:
            raise NotServing(f"the coordinator at {root_url} does not answer: {error}") from error
    return [model.id for model in served.data]
