"""From the options of `tandem provider` to its configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.cli.cluster_options import ClusterOptions
from tandem.cli.commands.provider import MachineOptions, provider_config
from tandem.cli.options import Dtype, ModelOptions
from tandem.errors import ConfigurationError
from tandem.protocol.cluster import Parallelism


def _machine(data_dir: Path, **more: object) -> MachineOptions:
    given: dict[str, object] = {"coordinator": "localhost:8000", "join_token": "t", **more}
    return MachineOptions(data_dir=data_dir, **given)  # type: ignore[arg-type]


def test_every_option_of_the_model_reaches_the_configuration(tmp_path: Path) -> None:
    model = ModelOptions(
        model="x", model_name="mine", dtype=Dtype.FLOAT32, device="cuda:1", threads=3
    )
    config = provider_config(_machine(tmp_path, name="box"), model, ClusterOptions())
    assert config.coordinator_url == "ws://localhost:8000"
    assert (config.name, config.model, config.model_name) == ("box", "x", "mine")
    assert (config.dtype, config.device, config.threads) == ("float32", "cuda:1", 3)
    assert (config.quantize, config.kv_tokens, config.cluster) == (None, None, None)
    assert config.status_path is None


def test_a_node_of_a_cluster_keeps_its_status(tmp_path: Path) -> None:
    cluster = ClusterOptions(ranks=2, peer=["10.0.0.1:7700"], parallelism=Parallelism.TENSOR)
    config = provider_config(_machine(tmp_path), ModelOptions(), cluster)
    assert config.cluster is not None
    assert config.cluster.peers == [("10.0.0.1", 7700)]
    assert config.status_path == tmp_path / "cluster-status.json"


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"join_token": None}, "TANDEM_JOIN_TOKEN"),
        ({"device_key": Path("k")}, "--device-chain"),
        ({"coordinator": "ftp://x"}, "ws://"),
    ],
)
def test_what_is_wrong_is_named_with_the_fix(
    tmp_path: Path, more: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        provider_config(_machine(tmp_path, **more), ModelOptions(), ClusterOptions())
