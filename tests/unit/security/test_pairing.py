"""Which nodes are paired, and the code that people compare."""

from __future__ import annotations

from pathlib import Path

import pytest

from tandem.errors import ConfigurationError
from tandem.security import (
    PairedNode,
    PairedNodes,
    commitment,
    load_or_create_identity,
    pairing_code,
)


def test_paired_nodes_are_kept_and_removed(tmp_path: Path) -> None:
    store = PairedNodes(tmp_path / "mine")
    assert store.all() == []
    nodes = [
        PairedNode.of(load_or_create_identity(tmp_path / name).certificate, name) for name in "ab"
    ]
    for node in (*nodes, nodes[0]):
        store.add(node)
    assert {node.name for node in store.all()} == {"a", "b"}
    before = store.revision
    store.remove(nodes[0].node_id)
    assert store.all() == [nodes[1]]
    assert store.revision != before


def test_a_damaged_list_of_paired_nodes_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "paired-nodes.json").write_text("[{")
    with pytest.raises(ConfigurationError, match="paired-nodes"):
        PairedNodes(tmp_path).all()


def test_the_pairing_code_depends_on_everything_that_was_exchanged() -> None:
    parts = ["certificate a", b"1" * 32, "certificate b", b"2" * 32]
    code = pairing_code(*parts)  # type: ignore[arg-type]
    assert len(code) == 6
    assert code.isdecimal()
    others = [
        pairing_code("certificate x", b"1" * 32, "certificate b", b"2" * 32),
        pairing_code("certificate a", b"x" * 32, "certificate b", b"2" * 32),
        pairing_code("certificate a", b"1" * 32, "certificate x", b"2" * 32),
        pairing_code("certificate a", b"1" * 32, "certificate b", b"x" * 32),
    ]
    assert len({code, *others}) == 5
    assert commitment(b"1" * 32, "a") != commitment(b"2" * 32, "a")
