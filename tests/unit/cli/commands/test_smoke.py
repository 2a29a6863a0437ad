"""What `tandem smoke` computes with."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.cli.conftest import RunCli

from tandem.engine import EngineOptions
from tandem.errors import ConfigurationError
from tandem.security import PairedNode, PairedNodes, load_or_create_identity


def test_it_computes_on_what_every_machine_has(
    run_cli: RunCli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Machines of all kinds have to give the same tokens."""
    asked: list[EngineOptions] = []

    def prepare(options: EngineOptions) -> None:
        asked.append(options)
        raise ConfigurationError("that is enough")

    monkeypatch.setattr("tandem.engine.prepare", prepare)
    own = PairedNode.of(load_or_create_identity(tmp_path).certificate, "other")
    PairedNodes(tmp_path).add(own)
    assert run_cli("smoke", "--peer=127.0.0.1:1", f"--data-dir={tmp_path}") == 2
    (options,) = asked
    assert (options.device, options.dtype) == ("cpu", "float32")
