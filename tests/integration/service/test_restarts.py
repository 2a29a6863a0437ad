"""Providers and the coordinator are restarted under load, with TLS and without."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from tests.support.running_providers import Fleet, request, running_fleet, stream
from tests.support.running_up import tandem
from tests.support.stores import ledger_entries

#: What consumers leave of the cores to those that start.
PAUSE_S = 0.3


async def restart(fleet: Fleet, number: int) -> None:
    """As an operator would: drained first, then stopped; the fleet starts it again."""
    service = (f"--base-url={fleet.url}", f"--api-key={fleet.key}")
    assert await fleet.tandem("drain", f"provider-{number}", *service, "--json") == 0
    process = fleet.alive[number]
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
    await fleet.until_routable(2)


def test_a_rolling_restart_with_drain_disturbs_nobody(tmp_path: Path) -> None:
    """Not only does every request succeed: none even has to move."""

    async def main() -> None:
        async with running_fleet(tmp_path, 2) as fleet, fleet.client() as client:
            calm = await asyncio.gather(*(stream(client, n) for n in range(4)))
            over = asyncio.Event()

            async def again_and_again(number: int) -> None:
                while not over.is_set():
                    assert await stream(client, number) == calm[number]
                    await asyncio.sleep(PAUSE_S)

            async with asyncio.TaskGroup() as tasks:
                for number in range(4):
                    tasks.create_task(again_and_again(number))
                for number in range(2):
                    await restart(fleet, number)
                over.set()

    asyncio.run(main())
    rows = ledger_entries(tmp_path, limit=10_000)
    assert {row.outcome for row in rows} == {"completed"}
    assert {row.attempts for row in rows} == {1}
    assert {row.provider for row in rows} == {"provider-0", "provider-1"}
    usage = tandem("usage", "--json", data_dir=tmp_path)
    (total,) = json.loads(usage.stdout)
    assert (total["requests"], total["failed"]) == (len(rows), 0)


def test_a_stopped_provider_hands_its_streams_over(tmp_path: Path) -> None:
    """A11: SIGTERM without a drain: what is not finished in time goes on elsewhere."""

    async def main() -> None:
        async with running_fleet(tmp_path, 2) as fleet, fleet.client() as client:
            calm = await asyncio.gather(*(stream(client, n) for n in range(8)))
            again = [asyncio.create_task(stream(client, n)) for n in range(8)]
            process = fleet.alive[0]
            process.send_signal(signal.SIGTERM)
            assert await asyncio.gather(*again) == calm
            assert await process.wait() == 0

    asyncio.run(main())
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"Count to" not in path.read_bytes(), "a prompt was stored"


def test_a_restarted_coordinator_gets_its_providers_back(tmp_path: Path) -> None:
    async def main() -> None:
        async with running_fleet(tmp_path, 2) as fleet, fleet.client() as client:
            before = await stream(client, 1)
            await fleet.stop_coordinator()
            await fleet.start_coordinator()
            await fleet.until_routable(2)
            assert await stream(client, 1) == before

    asyncio.run(main())


def _certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own root, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(True, None), critical=True)
        .sign(key, SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def test_clients_and_providers_come_over_tls(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    options = (f"--tls-cert={certificate}", f"--tls-key={key}")

    async def main() -> None:
        async with (
            running_fleet(tmp_path, 1, options=options, scheme="https", ca=certificate) as fleet,
            fleet.http() as http,
        ):
            body = request(0) | {"max_tokens": 8}
            answer = await http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200
            assert answer.json()["choices"][0]["message"]["content"]

    asyncio.run(main())


@pytest.mark.parametrize("options", [["--tls-cert=x.pem"], ["--tls-cert=x.pem", "--tls-key=y.pem"]])
def test_half_a_certificate_is_a_usage_error(tmp_path: Path, options: list[str]) -> None:
    done = tandem("coordinator", "--port=0", *options, data_dir=tmp_path)
    assert done.returncode == 2
    assert "pem" in done.stderr or "--tls-key" in done.stderr
