"""Options for TLS at the coordinator: a certificate of one's own, or one made here."""

from __future__ import annotations

import platform
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tandem.errors import ConfigurationError
from tandem.runtime import WILDCARDS, create_data_dir


class Tls(StrEnum):
    """Whether the coordinator makes itself a certificate."""

    OFF = "off"
    AUTO = "auto"


TlsOption = Annotated[
    Tls,
    typer.Option(
        "--tls",
        help="auto: HTTPS and WSS with a certificate that is made here; join tokens and addresses"
        " then say its key.",
    ),
]


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    tls: TlsOption = Tls.OFF
    tls_cert: Annotated[
        Path | None, typer.Option(help="Serve HTTPS and WSS with this certificate (PEM).")
    ] = None
    tls_key: Annotated[Path | None, typer.Option(help="The certificate's key (PEM).")] = None


class TlsFiles(msgspec.Struct, frozen=True):
    """`pin` is for clients that no authority tells whom they talk to."""

    certificate: Path | None = None
    key: Path | None = None
    pin: str | None = None


def tls_files(options: TlsOptions, folder: Path, host: str) -> TlsFiles:
    """Raises ConfigurationError for options that contradict, and for damaged files."""
    if (options.tls_cert is None) != (options.tls_key is None):
        raise ConfigurationError("--tls-cert and --tls-key belong together")
    if options.tls_cert is not None:
        if options.tls is Tls.AUTO:
            raise ConfigurationError("--tls auto makes a certificate: leave --tls-cert out")
        return TlsFiles(options.tls_cert, options.tls_key)
    if options.tls is Tls.OFF:
        return TlsFiles()
    from tandem.security import load_or_create_service_certificate

    create_data_dir(folder)
    made = load_or_create_service_certificate(folder, _names(host))
    return TlsFiles(made.certificate_path, made.key_path, made.pin)


def _names(host: str) -> list[str]:
    """Under which clients reach the service that check names; a pin needs none."""
    own = [] if host in WILDCARDS else [host]
    return [name for name in ("localhost", "127.0.0.1", "::1", platform.node(), *own) if name]
