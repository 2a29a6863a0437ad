"""Fixtures that the integration tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.running_up import Up, running_up


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One service for the tests of a module, which leave it as it was."""
    with running_up(tmp_path_factory.mktemp("up")) as service:
        yield service
