"""A `config.json` means what it means to `transformers`, whatever it leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from tests.support.models.config_reading import ours, theirs
from tests.support.models.drawn_configs import configs


@settings(max_examples=150, derandomize=True)
@given(configs())
def test_any_config_means_what_it_means_to_transformers(config: dict[str, Any]) -> None:
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        (folder / "config.json").write_text(json.dumps(config))
        assert ours(folder) == theirs(folder)
