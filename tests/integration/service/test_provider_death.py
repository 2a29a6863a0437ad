"""`kill -9` of a provider: those who wait see nothing of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.running_up import Up, running_up, stream_texts


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    with running_up(tmp_path_factory.mktemp("up")) as service:
        yield service


@pytest.mark.parametrize(
    "more",
    [{"temperature": 0}, {"temperature": 1.3, "seed": 7, "n": 2, "frequency_penalty": 0.3}],
    ids=["greedy", "sampled"],
)
def test_a_stream_goes_on_when_its_only_provider_is_killed_and_comes_back(
    up: Up, more: dict[str, Any]
) -> None:
    undisturbed = stream_texts(up, **more)
    killed = stream_texts(up, lambda: os.kill(up.provider_pids[0], signal.SIGKILL), **more)
    assert killed == undisturbed
    up.until_provider_is_back(0)
