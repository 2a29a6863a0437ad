"""Identities, pairing, tokens."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tandem.errors import ConfigurationError
from tandem.security import (
    PairedNode,
    PairedNodes,
    commitment,
    load_or_create_identity,
    new_api_key,
    new_join_token,
    node_id_of,
    pairing_code,
    same_secret,
)


def test_an_identity_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    first, again = (load_or_create_identity(tmp_path / "node") for _ in range(2))
    assert first == again
    assert node_id_of(first.certificate) == first.node_id
    assert stat.S_IMODE(first.key_path.stat().st_mode) == 0o600
    assert load_or_create_identity(tmp_path / "other").node_id != first.node_id


def test_a_certificate_of_another_key_is_refused(tmp_path: Path) -> None:
    one, other = (load_or_create_identity(tmp_path / name) for name in ("one", "other"))
    one.certificate_path.write_text(other.certificate)
    with pytest.raises(ConfigurationError, match="does not belong"):
        load_or_create_identity(tmp_path / "one")
    one.key_path.write_text("nonsense")
    with pytest.raises(ConfigurationError, match="private key"):
        load_or_create_identity(tmp_path / "one")


def test_paired_nodes_are_kept_and_removed(tmp_path: Path) -> None:
    store = PairedNodes(tmp_path / "mine")
    assert store.all() == []
    nodes = [
        PairedNode.of(load_or_create_identity(tmp_path / name).certificate, name) for name in "ab"
    ]
    for node in (*nodes, nodes[0]):
        store.add(node)
    assert {node.name for node in store.all()} == {"a", "b"}
    store.remove(nodes[0].node_id)
    assert store.all() == [nodes[1]]


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


def test_tokens_are_long_and_never_twice_the_same() -> None:
    made = {make() for make in (new_api_key, new_join_token) for _ in range(100)}
    assert len(made) == 200
    assert all(len(token) >= 45 for token in made)
    assert same_secret("a", "a")
    assert not same_secret("a", "b")
