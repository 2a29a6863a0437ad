"""LiteLLM's proxy as a process, as its own documentation sets it up for speed."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import msgspec
import psutil

from tandem.bench import HOST, BenchmarkFailed
from tandem.runtime import free_port

_KEY = "sk-bench"
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 15.0


class Proxy(msgspec.Struct, frozen=True):
    port: int
    key: str
    process: psutil.Process


@contextmanager
def litellm_proxy(
    command: Path, folder: Path, backend_port: int, models: list[str]
) -> Iterator[Proxy]:
    """Ready in front of `backend_port` when the context opens. Raises BenchmarkFailed."""
    config, log = folder / "litellm.json", folder / "litellm.log"
    config.write_bytes(proxy_config(backend_port, models))
    port = free_port()
    settings = {"LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    # Without these it fetches price lists, and tells its makers of its use.
    settings |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    arguments = ["--config", str(config), "--host", HOST, "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(command), *arguments, "--num_workers", "1"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=os.environ | settings,
        )
    try:
        _wait_until_ready(process, port, log)
        yield Proxy(port, _KEY, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()


def proxy_config(backend_port: int, models: list[str]) -> bytes:
    """YAML, of which JSON is a part."""
    backend = {"api_base": f"http://{HOST}:{backend_port}/v1", "api_key": "none"}
    return msgspec.json.encode(
        {
            "model_list": [
                {"model_name": name, "litellm_params": {"model": f"openai/{name}", **backend}}
                for name in models
            ],
            "litellm_settings": {"telemetry": False, "request_timeout": 600},
            "general_settings": {"master_key": _KEY},
        }
    )


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < until and process.poll() is None:
        try:
            httpx2.get(f"http://{HOST}:{port}/health/liveliness", timeout=5)
        except httpx2.TransportError:
            time.sleep(0.2)  # it binds its port when it is ready
        else:
            return
    tail = log.read_text("utf-8", "replace").splitlines()[-5:]
    raise BenchmarkFailed("\n".join(["LiteLLM did not start:", *tail]))
