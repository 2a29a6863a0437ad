"""From the options of `tandem coordinator` to its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem import cluster
from tandem.cli.commands import coordinator
from tandem.cli.commands.coordinator import CoordinatorOptions, coordinator_config
from tandem.cli.tls_options import TlsFiles
from tandem.coordinator import CoordinatorConfig
from tandem.errors import ConfigurationError


def test_what_is_not_said_is_the_configurations_default(tmp_path: Path) -> None:
    options = CoordinatorOptions(data_dir=tmp_path, join_token="t")
    bare = CoordinatorConfig(host="127.0.0.1", port=8000, data_dir=tmp_path, join_token="t")
    assert coordinator_config(options, TlsFiles()) == bare


def test_every_option_reaches_the_configuration(tmp_path: Path) -> None:
    for name in ("cert", "key", "roots"):
        (tmp_path / name).touch()
    options = CoordinatorOptions(
        host="0.0.0.0",
        port=1,
        data_dir=tmp_path,
        join_token="t",
        require_keys=False,
        cors_origin=["https://App.example/", "*"],
        request_timeout=2.0,
        request_limit=5.0,
        max_waiting=3,
        patience=4.0,
        attestation_roots=tmp_path / "roots",
    )
    files = TlsFiles(tmp_path / "cert", tmp_path / "key")
    assert coordinator_config(options, files) == CoordinatorConfig(
        host="0.0.0.0",
        port=1,
        data_dir=tmp_path,
        join_token="t",
        require_keys=False,
        cors_origins=("https://app.example", "*"),
        request_timeout_s=2.0,
        request_limit_s=5.0,
        max_waiting=3,
        patience_s=4.0,
        tls_certificate=tmp_path / "cert",
        tls_key=tmp_path / "key",
        attestation_roots=tmp_path / "roots",
    )


def test_without_a_join_token_the_folders_own_is_used(tmp_path: Path) -> None:
    config = coordinator_config(CoordinatorOptions(data_dir=tmp_path), TlsFiles())
    assert config.join_token == (tmp_path / "join-token").read_text().strip()


@pytest.mark.parametrize(
    ("roots", "files"),
    [(Path("none"), TlsFiles()), (None, TlsFiles(Path("none"), Path("none")))],
)
def test_files_that_are_not_there_are_named(
    tmp_path: Path, roots: Path | None, files: TlsFiles
) -> None:
    options = CoordinatorOptions(data_dir=tmp_path, attestation_roots=roots)
    with pytest.raises(ConfigurationError, match="none is no file"):
        coordinator_config(options, files)


@pytest.mark.parametrize(
    "origin", ["app.example", "https://app.example/path", "https://", "a b://c"]
)
def test_what_is_no_origin_is_refused(tmp_path: Path, origin: str) -> None:
    options = CoordinatorOptions(data_dir=tmp_path, join_token="t", cors_origin=[origin])
    with pytest.raises(ConfigurationError, match="--cors-origin"):
        coordinator_config(options, TlsFiles())


def test_keys_and_tokens_name_an_address_that_other_machines_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cluster, "hosts_behind", lambda _: ["192.0.2.7", "192.0.2.8"])
    assert coordinator.named_host("0.0.0.0") == "192.0.2.7"
    assert coordinator.named_host("box.example") == "box.example"
    monkeypatch.setattr(cluster, "hosts_behind", lambda _: [])
    assert coordinator.named_host("::") == "::"
