"""Addresses as operators type them become those of a node, or are refused by the option."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.links import identities, paired

from tandem.cli.cluster_options import ClusterOptions, cluster_config
from tandem.cluster import ClusterConfig
from tandem.errors import ConfigurationError
from tandem.security import PairedNodes


def _config(directory: Path, options: ClusterOptions) -> ClusterConfig:
    config = cluster_config(options, data_dir=directory, name="here")
    assert config is not None
    return config


@pytest.mark.parametrize(
    ("typed", "address"),
    [
        ("10.0.0.1:7700", ("10.0.0.1", 7700)),
        ("[::1]:7700", ("::1", 7700)),
        ("[fe80::1%eth0]:7700", ("fe80::1%eth0", 7700)),
        ("[::]:7700", ("::", 7700)),
        (":7700", ("", 7700)),
    ],
)
def test_a_node_listens_where_it_is_told_to(
    tmp_path: Path, typed: str, address: tuple[str, int]
) -> None:
    assert _config(tmp_path, ClusterOptions(ranks=2, cluster_listen=typed)).listen == address


@pytest.mark.parametrize("typed", ["10.0.0.1", "::1:7700", "10.0.0.1:port", "[::1]", "[host]:1"])
def test_what_is_no_address_is_refused_by_its_option(tmp_path: Path, typed: str) -> None:
    with pytest.raises(ConfigurationError, match="--cluster-listen"):
        _config(tmp_path, ClusterOptions(ranks=2, cluster_listen=typed))
    with pytest.raises(ConfigurationError, match="--peer"):
        _config(tmp_path, ClusterOptions(ranks=2, peer=[typed]))


def test_another_machine_has_a_host(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--peer"):
        _config(tmp_path, ClusterOptions(ranks=2, peer=[":7700"]))


@pytest.mark.parametrize("own", ["10.0.0.1", "fd00::1", "fe80::1%eth0"])
def test_a_node_that_is_to_be_found_listens_where_it_is_looked_for(
    tmp_path: Path, own: str
) -> None:
    config = _config(tmp_path, ClusterOptions(ranks=2, discover=[own]))
    assert config.discover_on == [own]
    assert config.listen == (own, 0)


def test_an_interface_is_named_by_its_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--discover 'eth0'"):
        _config(tmp_path, ClusterOptions(ranks=2, discover=["eth0"]))


def test_a_node_follows_who_is_paired_with_it(tmp_path: Path) -> None:
    (other,) = identities(tmp_path, 1)
    config = _config(tmp_path, ClusterOptions(ranks=2, peer=["10.0.0.1:7700"]))
    assert config.paired == []
    PairedNodes(tmp_path).add(paired(other))
    assert config.pairings is not None
    assert [node.node_id for node in config.pairings.all()] == [other.node_id]
