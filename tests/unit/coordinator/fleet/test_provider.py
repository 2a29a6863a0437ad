from __future__ import annotations

from tests.support.registered import beat, join, make_registry


def test_the_device_is_what_was_said_last() -> None:
    provider = join(make_registry(), ["m"])
    assert provider.device == "cpu", "as registered"
    provider.heartbeat = beat()
    assert provider.device == "cpu", "a provider that does not say"
    provider.heartbeat = beat(device="cuda:0 NVIDIA H100")
    assert provider.device == "cuda:0 NVIDIA H100"
