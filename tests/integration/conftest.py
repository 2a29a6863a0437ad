"""Fixtures that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.running_up import Up, running_up


@pytest.fixture(scope="session")
def shared_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One service for all tests that leave it as it was."""
    with running_up(tmp_path_factory.mktemp("up")) as service:
        yield service


@pytest.fixture
def up(shared_up: Up) -> Up:
    """The shared one, unless a module has its own."""
    return shared_up
