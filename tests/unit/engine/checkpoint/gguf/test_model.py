"""A GGUF's fields and tensors are those that the format's own library has written."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.models.gguf_files import quantised, write_gguf

from tandem.engine.checkpoint.gguf.choice import part_names
from tandem.engine.checkpoint.gguf.model import GgufModel
from tandem.errors import CheckpointError

FIELDS = {
    "llama.block_count": 3,
    "llama.rope.freq_base": 0.5,
    "tokenizer.ggml.add_bos_token": True,
    "general.name": "ä small one",
    "tokenizer.ggml.tokens": ["a", "", "ß" * 40],
    "tokenizer.ggml.scores": [0.5, -1.0],
    "nested": [[1, 2], [3]],
}


def tensors(rows: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    return {
        "token_embd.weight": rng.standard_normal((rows, 64)).astype(np.float32),
        "blk.0.attn_q.weight": rng.standard_normal((4, 32)).astype(np.float16),
        "output_norm.weight": rng.standard_normal(5).astype(np.float32),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "model.gguf", "llama", FIELDS, tensors())


def test_fields_are_what_was_written(file: Path) -> None:
    with GgufModel(file) as model:
        assert model.needed("general.architecture", str) == "llama"
        for key, value in FIELDS.items():
            found = model.fields[key]
            if isinstance(found, list):
                found = [list(part) if isinstance(part, np.ndarray) else part for part in found]
            assert found == value if not isinstance(found, np.ndarray) else list(found) == value


def test_tensors_are_where_they_are(file: Path) -> None:
    with GgufModel(file) as model:
        assert set(model.tensors) == set(tensors())
        for name, expected in tensors().items():
            assert model.tensors[name].shape == expected.shape
            assert model.blocks(name).tobytes() == expected.tobytes()


def test_any_alignment_holds(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(file, "llama", {"general.alignment": 128}, tensors())
    with GgufModel(file) as model:
        assert all(info.start % 128 == 0 for info in model.tensors.values())
        assert (
            model.blocks("output_norm.weight").tobytes()
            == tensors()["output_norm.weight"].tobytes()
        )


def test_parts_are_one_model(tmp_path: Path) -> None:
    """The library begins with a part that has fields alone when it is asked to."""
    write_gguf(
        tmp_path / "m.gguf",
        "llama",
        FIELDS,
        {f"t{number}": np.full((8, 8), number, np.float32) for number in range(5)},
        split_max_tensors=2,
        small_first_shard=True,
    )
    files = sorted(path.name for path in tmp_path.glob("*.gguf"))
    assert files == part_names(files[2])
    assert len(files) == 4
    for name in files:
        with GgufModel(tmp_path / name) as model:
            assert model.needed("llama.block_count", int) == 3
            for number in range(5):
                assert (model.blocks(f"t{number}").view(np.float32) == number).all()
    (tmp_path / files[1]).unlink()
    with pytest.raises(CheckpointError, match=rf"{files[1]}: missing"):
        GgufModel(tmp_path / files[0])


def test_parts_of_two_models_are_told_apart(tmp_path: Path) -> None:
    for name, count in (("m", 4), ("n", 6)):
        numbers = {f"t{number}": np.zeros((8, 8), np.float32) for number in range(count)}
        write_gguf(tmp_path / f"{name}.gguf", "llama", {}, numbers, split_max_tensors=2)
    (tmp_path / "m-00002-of-00003.gguf").write_bytes(
        (tmp_path / "n-00002-of-00003.gguf").read_bytes()
    )
    (tmp_path / "m-00001-of-00002.gguf").rename(tmp_path / "m-00001-of-00003.gguf")
    (tmp_path / "n-00003-of-00003.gguf").rename(tmp_path / "m-00003-of-00003.gguf")
    with pytest.raises(CheckpointError, match=r"m-00001-of-00003\.gguf: split\.no and split"):
        GgufModel(tmp_path / "m-00001-of-00003.gguf")


def test_a_field_of_another_type_is_named(file: Path) -> None:
    with GgufModel(file) as model:
        with pytest.raises(CheckpointError, match=r"general\.name is 'ä small one'; expected an i"):
            model.needed("general.name", int)
        with pytest.raises(CheckpointError, match=r"add_bos_token is True; expected an integer"):
            model.needed("tokenizer.ggml.add_bos_token", int)
        with pytest.raises(CheckpointError, match=r"llama\.context_length is missing"):
            model.needed("llama.context_length", int)
        assert model.needed("llama.block_count", float) == 3.0


def replaced(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def info(name: str, *rest: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + b"".join(rest)


QUERY = info("blk.0.attn_q.weight", struct.pack("<I", 2))
DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda _: b"", "it is empty"),
    "another file": (lambda d: b"PK" + d[2:], "does not begin with GGUF"),
    "version 1": (lambda d: d[:4] + b"\1\0\0\0" + d[8:], "of version 1; expected version 3"),
    "big-endian": (lambda d: d[:4] + b"\0\0\0\3" + d[8:], "big-endian"),
    "too many tensors": (
        lambda d: d[:8] + struct.pack("<Q", 2**40) + d[16:],
        "its tensors has a length of 1099511627776",
    ),
    "too many fields": (lambda d: d[:16] + b"\xff" * 8 + d[24:], "its fields"),
    "more tensors than there are": (
        lambda d: d[:8] + struct.pack("<Q", 2**10) + d[16:],
        "tensor|it ends|UTF-8",
    ),
    "cut in the head": (lambda d: d[:300], "it ends within"),
    "cut in the numbers": (lambda d: d[:-70], "copy or download it again"),
    "a long name": (
        lambda d: replaced(d, info("general.name"), struct.pack("<Q", 2**33) + b"general.name"),
        "the name of a field",
    ),
    "an unknown type of field": (
        lambda d: replaced(
            d, info("llama.block_count", b"\4\0\0\0"), info("llama.block_count", b"\x63\0\0\0")
        ),
        "llama.block_count is of the unknown type 99",
    ),
    "an array of many texts": (
        lambda d: replaced(
            d,
            info("tokenizer.ggml.tokens", b"\t\0\0\0\b\0\0\0", struct.pack("<Q", 3)),
            info("tokenizer.ggml.tokens", b"\t\0\0\0\b\0\0\0", struct.pack("<Q", 2**60)),
        ),
        "tokenizer.ggml.tokens has a length of",
    ),
    "an array of more texts than there are": (
        lambda d: replaced(
            d,
            info("tokenizer.ggml.tokens", b"\t\0\0\0\b\0\0\0", struct.pack("<Q", 3)),
            info("tokenizer.ggml.tokens", b"\t\0\0\0\b\0\0\0", struct.pack("<Q", 2**20)),
        ),
        "it ends within tokenizer.ggml.tokens",
    ),
    "no UTF-8": (lambda d: d.replace("ä".encode(), b"\xff\xff"), "general.name is not UTF-8"),
    "no dimension": (
        lambda d: replaced(d, QUERY, QUERY[:-4] + struct.pack("<I", 0)),
        "tensor blk.0.attn_q.weight has 0 dimensions",
    ),
    "a large shape": (
        lambda d: replaced(d, QUERY + struct.pack("<Q", 32), QUERY + struct.pack("<Q", 2**62)),
        "tensor blk.0.attn_q.weight of .* bytes ends at",
    ),
    "no numbers": (
        lambda d: replaced(d, QUERY + struct.pack("<Q", 32), QUERY + struct.pack("<Q", 0)),
        r"tensor blk.0.attn_q.weight has shape \[4, 0\]",
    ),
    "an unknown type": (
        lambda d: replaced(
            d,
            QUERY + struct.pack("<QQI", 32, 4, 1),
            QUERY + struct.pack("<QQI", 32, 4, 99),
        ),
        "tensor blk.0.attn_q.weight is of the unknown type 99",
    ),
    "rows of half a block": (
        lambda d: replaced(
            d,
            QUERY + struct.pack("<QQI", 32, 4, 1),
            QUERY + struct.pack("<QQI", 40, 4, 2),
        ),
        "tensor blk.0.attn_q.weight has rows of 40 numbers; Q4_0 has 32 in a block",
    ),
    "within another": (
        lambda d: replaced(
            d,
            QUERY + struct.pack("<QQIQ", 32, 4, 1, 1536),
            QUERY + struct.pack("<QQIQ", 32, 4, 1, 1504),
        ),
        "tensor blk.0.attn_q.weight begins within tensor token_embd.weight",
    ),
    "not aligned": (
        lambda d: replaced(
            d,
            QUERY + struct.pack("<QQIQ", 32, 4, 1, 1536),
            QUERY + struct.pack("<QQIQ", 32, 4, 1, 1537),
        ),
        "tensor blk.0.attn_q.weight begins at 1537",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_the_damage_is_named(file: Path, name: str) -> None:
    damage, words = DAMAGES[name]
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(CheckpointError, match=words) as caught:
        GgufModel(file)
    assert str(file) in caught.value.message


def test_names_are_there_once(tmp_path: Path) -> None:
    numbers = np.zeros(8, np.float32)
    file = write_gguf(
        tmp_path / "m.gguf", "llama", {"one": 1, "two": 2}, {"a": numbers, "b": numbers}
    )
    data = file.read_bytes()
    file.write_bytes(replaced(data, info("two"), info("one")))
    with pytest.raises(CheckpointError, match="one is there twice"):
        GgufModel(file)
    file.write_bytes(replaced(data, info("b", b"\1\0\0\0"), info("a", b"\1\0\0\0")))
    with pytest.raises(CheckpointError, match="tensor a is there twice"):
        GgufModel(file)


def test_nesting_has_an_end(tmp_path: Path) -> None:
    deep: list[object] = [1]
    for _ in range(8):
        deep = [deep]
    file = write_gguf(tmp_path / "m.gguf", "llama", {"deep": deep}, {})
    with pytest.raises(CheckpointError, match="deep is nested more than 4 deep"):
        GgufModel(file)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_is_altered_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = tmp_path_factory.mktemp("altered") / "model.gguf"
    quantised_tensors = tensors() | {"q": quantised(np.ones((2, 64)), "Q4_0")}
    sound = write_gguf(file, "llama", FIELDS, quantised_tensors).read_bytes()
    altered = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(altered) - 1))
        altered[at : at + 1] = data.draw(st.binary(max_size=9))
    file.write_bytes(altered)
    with contextlib.suppress(CheckpointError), GgufModel(file) as model:
        for name in model.tensors:
            model.blocks(name).sum()
