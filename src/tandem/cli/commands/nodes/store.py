"""The machines and join tokens in a data folder, and how their times are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tandem.runtime import create_data_dir, data_dir_or_default

if TYPE_CHECKING:
    from tandem.coordinator import Nodes


@contextmanager
def open_nodes(data_dir: Path | None) -> Iterator[Nodes]:
    from tandem.coordinator import stores_in

    folder = data_dir_or_default(data_dir)
    create_data_dir(folder)
    with closing(stores_in(folder).nodes()) as opened:
        yield opened


def when(moment: datetime | None) -> str:
    return "for ever" if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M}"
