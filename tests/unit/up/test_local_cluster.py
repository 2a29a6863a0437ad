from __future__ import annotations

from pathlib import Path

from tandem.security import PairedNodes, load_or_create_identity
from tandem.up.local_cluster import local_rank_arguments, pair_local_nodes


def test_each_node_knows_all_of_them_by_name(tmp_path: Path) -> None:
    homes = {name: tmp_path / name for name in ("a", "b", "c")}
    pair_local_nodes(homes)
    ids = {load_or_create_identity(home).node_id: name for name, home in homes.items()}
    for home in homes.values():
        assert {node.node_id: node.name for node in PairedNodes(home).all()} == ids


def test_one_rank_is_told_nothing() -> None:
    assert local_rank_arguments(1, "auto") == [[]]


def test_all_ranks_dial_the_first() -> None:
    first, *others = local_rank_arguments(3, "tp")
    (address,) = [word.partition("=")[2] for word in first if word.startswith("--cluster-listen")]
    assert first == ["--ranks=3", "--parallelism=tp", "--rank=0", f"--cluster-listen={address}"]
    for rank, options in enumerate(others, 1):
        assert f"--rank={rank}" in options
        assert f"--peer={address}" in options
