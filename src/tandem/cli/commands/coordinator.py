"""`tandem coordinator`: the API and the registry of providers, in the foreground."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tandem.cli.discovery import Section
from tandem.cli.options import (
    DataDir,
    Host,
    Level,
    LogLevel,
    RequestTimeout,
    StopOnStdinEof,
)
from tandem.cli.output import note, print_json
from tandem.cli.tls_options import TlsFiles, TlsOptions, tls_files
from tandem.client import cannot_listen, http_url, with_pin, write_service_address
from tandem.coordinator import (
    DEFAULT_MAX_WAITING,
    DEFAULT_PATIENCE_S,
    DEFAULT_REQUEST_TIMEOUT_S,
    CoordinatorConfig,
)
from tandem.errors import ConfigurationError
from tandem.runtime import (
    DEFAULT_PORT,
    WILDCARDS,
    create_data_dir,
    data_dir_or_default,
    is_loopback,
)

SECTION = Section.SERVE

_LISTEN_PROBLEMS = {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}


class CoordinatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where it listens, whom it lets in, and how long requests may take."""

    host: Host = "127.0.0.1"
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 takes a free one.")] = (
        DEFAULT_PORT
    )
    data_dir: DataDir = None
    join_token: Annotated[
        str | None,
        typer.Option(
            envvar="TANDEM_JOIN_TOKEN",
            help="The secret that providers of this machine join with; better in the variable.",
            show_default="the one in the data folder",
        ),
    ] = None
    require_keys: Annotated[
        bool, typer.Option("--require-keys/--no-keys", help="Whether requests need an API key.")
    ] = True
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            help="A web page that may use the API from a browser, such as https://app.example;"
            " repeat it for several.",
            show_default="* with keys, none without",
        ),
    ] = None
    request_timeout: RequestTimeout = DEFAULT_REQUEST_TIMEOUT_S
    request_limit: Annotated[
        float | None,
        typer.Option(
            min=1.0,
            help="Seconds that a request may take in all; its answer then ends as one of"
            " `max_tokens` does.",
            show_default="none",
        ),
    ] = None
    max_waiting: Annotated[
        int, typer.Option(min=1, help="Requests that may wait for a provider, for each model.")
    ] = DEFAULT_MAX_WAITING
    patience: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for a lost provider to come back.")
    ] = DEFAULT_PATIENCE_S
    attestation_roots: Annotated[
        Path | None,
        typer.Option(help="Makers' root certificates (PEM), for machines of trust `hardware`."),
    ] = None


def coordinator(
    options: CoordinatorOptions,
    tls: TlsOptions,
    log_level: Level = LogLevel.INFO,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line on stdout when listening.")
    ] = False,
    stop_on_stdin_eof: StopOnStdinEof = False,
) -> None:
    """Runs the API that clients use and providers join.

    \b
    Examples:
      tandem coordinator
      tandem coordinator --host 0.0.0.0 --port 8000
      tandem coordinator --host 0.0.0.0 --tls auto
      tandem coordinator --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem
      TANDEM_JOIN_TOKEN=... tandem coordinator --data-dir /var/lib/tandem
    """
    from tandem.coordinator import serve
    from tandem.runtime import Stop, configure_logging, run_service

    configure_logging(log_level.value)
    files = tls_files(tls, data_dir_or_default(options.data_dir), options.host)
    config = coordinator_config(options, files)

    def on_listening(actual_port: int) -> None:
        url = http_url(config.host, actual_port, tls=config.tls_certificate is not None)
        known = http_url(
            named_host(config.host), actual_port, tls=config.tls_certificate is not None
        )
        write_service_address(config.data_dir, with_pin(known, files.pin))
        if json:
            from tandem.up import Listening

            print_json(Listening(actual_port))
        else:
            _say(config, url)

    async def main(stop: Stop) -> None:
        await serve(config, stop, on_listening=on_listening)

    try:
        run_service(main, stop_on_stdin_eof=stop_on_stdin_eof)
    except OSError as error:
        if error.errno not in _LISTEN_PROBLEMS:
            raise
        raise cannot_listen(config.host, config.port, error.errno) from error


def named_host(host: str) -> str:
    """The host, or for one that stands for all addresses of this machine the best of them."""
    if host not in WILDCARDS:
        return host
    from tandem.cluster import hosts_behind

    return next(iter(hosts_behind(host)), host)


def _say(config: CoordinatorConfig, url: str) -> None:
    note(f"Listening on {url}. Ctrl-C stops it.")
    if config.tls_certificate is None and not is_loopback(config.host):
        note(
            "Without TLS keys, join tokens and prompts can be read on the way: --tls auto"
            " encrypts them."
        )
    if config.require_keys:
        clients = "Clients need a key (`tandem keys create NAME`)"
    else:
        clients = (
            "Nobody needs a key: whoever reaches this address may use it, but for web pages that"
            " --cors-origin does not name"
        )
    note(
        f"{clients}. Machines need a join token (`tandem nodes token`) or your approval"
        " (`tandem nodes list`)."
    )


def coordinator_config(options: CoordinatorOptions, files: TlsFiles) -> CoordinatorConfig:
    """What was typed, as a coordinator takes it. Raises ConfigurationError for what is wrong."""
    _check_files(files.certificate, files.key, options.attestation_roots)
    from tandem.coordinator import load_or_create_join_token

    folder = data_dir_or_default(options.data_dir)
    create_data_dir(folder)
    return CoordinatorConfig(
        host=options.host,
        port=options.port,
        data_dir=folder,
        join_token=options.join_token or load_or_create_join_token(folder),
        require_keys=options.require_keys,
        cors_origins=_origins(options.cors_origin),
        request_timeout_s=options.request_timeout,
        request_limit_s=options.request_limit,
        max_waiting=options.max_waiting,
        patience_s=options.patience,
        tls_certificate=files.certificate,
        tls_key=files.key,
        attestation_roots=options.attestation_roots,
    )


def _origins(given: list[str] | None) -> tuple[str, ...] | None:
    if not given:
        return None
    from tandem.coordinator import parse_origin

    return tuple(map(parse_origin, given))


def _check_files(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.is_file():
            raise ConfigurationError(f"{path} is no file")
