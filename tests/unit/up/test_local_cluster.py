from __future__ import annotations

from pathlib import Path

from tandem.security import PairedNodes, load_or_create_identity
from tandem.up.local_cluster import pair_local_nodes


def test_each_node_knows_all_of_them_by_name(tmp_path: Path) -> None:
    homes = {name: tmp_path / name for name in ("a", "b", "c")}
    pair_local_nodes(homes)
    ids = {load_or_create_identity(home).node_id: name for name, home in homes.items()}
    for home in homes.values():
        assert {node.node_id: node.name for node in PairedNodes(home).all()} == ids
