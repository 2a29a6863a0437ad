"""From the options of `tandem coordinator` to its configuration."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tandem.cli.commands.coordinator import CoordinatorOptions, coordinator_config
from tandem.coordinator import CoordinatorConfig
from tandem.errors import ConfigurationError


def test_what_is_not_said_is_the_configurations_default(tmp_path: Path) -> None:
    options = CoordinatorOptions(data_dir=tmp_path, join_token="t")
    bare = CoordinatorConfig(host="127.0.0.1", port=8000, data_dir=tmp_path, join_token="t")
    assert coordinator_config(options) == bare


def test_every_option_reaches_the_configuration(tmp_path: Path) -> None:
    for name in ("cert", "key", "roots"):
        (tmp_path / name).touch()
    options = CoordinatorOptions(
        host="0.0.0.0",
        port=1,
        data_dir=tmp_path,
        join_token="t",
        require_keys=False,
        request_timeout=2.0,
        max_waiting=3,
        patience=4.0,
        tls_cert=tmp_path / "cert",
        tls_key=tmp_path / "key",
        attestation_roots=tmp_path / "roots",
    )
    assert coordinator_config(options) == CoordinatorConfig(
        host="0.0.0.0",
        port=1,
        data_dir=tmp_path,
        join_token="t",
        require_keys=False,
        request_timeout_s=2.0,
        max_waiting=3,
        patience_s=4.0,
        tls_certificate=tmp_path / "cert",
        tls_key=tmp_path / "key",
        attestation_roots=tmp_path / "roots",
    )


def test_without_a_join_token_the_folders_own_is_used(tmp_path: Path) -> None:
    config = coordinator_config(CoordinatorOptions(data_dir=tmp_path))
    assert config.join_token == (tmp_path / "join-token").read_text().strip()


@pytest.mark.parametrize(
    ("given", "named"),
    [({"tls_cert": Path("c")}, "--tls-key"), ({"attestation_roots": Path("none")}, "is no file")],
)
def test_what_is_wrong_is_named(tmp_path: Path, given: dict[str, Path], named: str) -> None:
    options = msgspec.structs.replace(CoordinatorOptions(data_dir=tmp_path), **given)
    with pytest.raises(ConfigurationError, match=named):
        coordinator_config(options)
