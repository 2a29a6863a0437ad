"""A second coordinator on a folder that one has: refused, and the first one's rows are its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.integration.coordinator.conftest import running

from tandem.coordinator import CoordinatorConfig, serve
from tandem.errors import ConfigurationError
from tandem.runtime import Stop


def second(data_dir: Path) -> CoordinatorConfig:
    return CoordinatorConfig(host="127.0.0.1", port=0, data_dir=data_dir, join_token="t")


async def _serve(data_dir: Path) -> None:
    stop = Stop()
    await serve(second(data_dir), stop, on_listening=lambda _: stop.request())


def test_a_second_one_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with (
        running(tmp_path),
        pytest.raises(ConfigurationError, match=r"a coordinator already runs on .*--data-dir"),
    ):
        asyncio.run(_serve(tmp_path))
    asyncio.run(_serve(tmp_path))
