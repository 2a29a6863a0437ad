"""From `--tls` and its files to what a coordinator serves with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.cli.tls_options import Tls, TlsFiles, TlsOptions, tls_files
from tandem.errors import ConfigurationError


def test_off_is_the_default(tmp_path: Path) -> None:
    assert tls_files(TlsOptions(), tmp_path, "127.0.0.1") == TlsFiles()


def test_auto_makes_a_certificate_once(tmp_path: Path) -> None:
    options = TlsOptions(tls=Tls.AUTO)
    first = tls_files(options, tmp_path / "new", "0.0.0.0")
    assert first.certificate is not None
    assert first.certificate.is_file()
    assert tls_files(options, tmp_path / "new", "0.0.0.0") == first


def test_files_of_ones_own_have_no_pin(tmp_path: Path) -> None:
    options = TlsOptions(tls_cert=tmp_path / "c", tls_key=tmp_path / "k")
    assert tls_files(options, tmp_path, "") == TlsFiles(tmp_path / "c", tmp_path / "k")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (TlsOptions(tls_cert=Path("c")), "--tls-key"),
        (TlsOptions(tls_key=Path("k")), "--tls-cert"),
        (TlsOptions(tls=Tls.AUTO, tls_cert=Path("c"), tls_key=Path("k")), "leave --tls-cert out"),
    ],
)
def test_contradictions_are_named(tmp_path: Path, options: TlsOptions, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        tls_files(options, tmp_path, "")
