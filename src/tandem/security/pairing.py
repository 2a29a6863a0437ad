"""Which other machines this one trusts, and the short code by which two people compare.

Two nodes exchange certificates and random numbers over a link that nobody vouches for yet. Each
commits to its number before it sees the other's, so that whoever stands in between has one guess
at the code, not as many as it can compute (the commitment of Vaudenay's short authenticated
strings, CRYPTO 2005).
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import msgspec

from tandem.errors import ConfigurationError
from tandem.security.identity import NodeId, node_id_of

_FILE = "paired-nodes.json"
_CODE_DIGITS = 6
NONCE_BYTES = 32


class PairedNode(msgspec.Struct, frozen=True):
    node_id: NodeId
    name: str
    certificate: str

    @classmethod
    def of(cls, certificate: str, name: str) -> PairedNode:
        return cls(node_id_of(certificate), name, certificate)


class PairedNodes:
    """The paired nodes of one folder, in a file that is replaced in one step."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE

    def all(self) -> list[PairedNode]:
        """Raises ConfigurationError when the file is damaged, or cannot be read."""
        try:
            nodes = msgspec.json.decode(self._path.read_bytes(), type=list[PairedNode])
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ConfigurationError(f"{self._path} cannot be read: {error.strerror}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{self._path} is damaged ({error}): pair again") from error
        for node in nodes:
            if node_id_of(node.certificate) != node.node_id:
                raise ConfigurationError(f"{self._path}: {node.name} has another's certificate")
        return nodes

    @property
    def revision(self) -> tuple[int, int]:
        """Another one after every change of the file, whoever made it."""
        try:
            status = self._path.stat()
        except OSError:  # it is not there, or `all` says why it cannot be read
            return (0, 0)
        return (status.st_ino, status.st_mtime_ns)

    def find(self, text: str) -> PairedNode:
        """The one that is called so, or whose id begins so. Raises ConfigurationError."""
        nodes = self.all()
        named = [node for node in nodes if node.name == text]
        found = named or [node for node in nodes if text and node.node_id.startswith(text)]
        if len(found) != 1:
            how_many = "several machines are" if found else "no machine is"
            raise ConfigurationError(
                f"{how_many} paired as {text!r}: name one by its id, as `tandem pair --list` does"
            )
        return found[0]

    def add(self, node: PairedNode) -> None:
        """Trusts a node from now on; an older certificate of the same node is replaced."""
        self._write([*(n for n in self.all() if n.node_id != node.node_id), node])

    def remove(self, node_id: NodeId) -> None:
        """Trusts it no more. A node that runs on this folder ends its links to it."""
        self._write([node for node in self.all() if node.node_id != node_id])

    def _write(self, nodes: list[PairedNode]) -> None:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = self._path.with_name(f".{self._path.name}.{secrets.token_hex(4)}")
        draft.write_bytes(msgspec.json.format(msgspec.json.encode(nodes)) + b"\n")
        draft.replace(self._path)


def commitment(nonce: bytes, certificate: str) -> bytes:
    """What is sent before the nonce itself."""
    return hashlib.sha256(b"tandem pairing commitment" + nonce + certificate.encode()).digest()


def pairing_code(
    first_certificate: str, first_nonce: bytes, second_certificate: str, second_nonce: bytes
) -> str:
    """Six digits that are the same on both sides unless somebody stands in between.

    `first` is the side that committed first.
    """
    digest = hashlib.sha256(b"tandem pairing code")
    for part in (first_certificate.encode(), first_nonce, second_certificate.encode()):
        digest.update(hashlib.sha256(part).digest())
    digest.update(hashlib.sha256(second_nonce).digest())
    number = int.from_bytes(digest.digest(), "big") % 10**_CODE_DIGITS
    return f"{number:0{_CODE_DIGITS}}"
