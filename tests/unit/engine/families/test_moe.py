"""What a `config.json` may say of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.models.config_reading import ours

from tandem.engine.families import FAMILIES, Size, read_config
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError

SIZE = Size(2, 48, 80, 4, 2, 12, 301, 64, experts=5, experts_per_token=2, expert_columns=20)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("qwen3_moe", {"num_experts": 0}, "num_experts is 0; expected 1 to 2048"),
        ("qwen3_moe", {"num_experts": 10**30}, "num_experts is out of all bounds"),
        ("mixtral", {"num_local_experts": 2049}, "num_experts is 2049"),
        ("gpt_oss", {"num_experts_per_tok": 6}, "num_experts_per_tok is 6; expected 1 to 5"),
        ("qwen2_moe", {"num_experts_per_tok": 0}, "num_experts_per_tok is 0"),
        ("qwen3_moe", {"moe_intermediate_size": -1}, "moe_intermediate_size is -1"),
        ("qwen2_moe", {"shared_expert_intermediate_size": 0}, "shared_expert_intermediate_size"),
        ("qwen3_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step is 0"),
        ("olmoe", {"clip_qkv": 8.0}, "clip_qkv is 8.0; expected none"),
        ("gpt_oss", {"swiglu_limit": 0.0}, "swiglu_limit is 0.0; expected a positive number"),
        (
            "qwen3_moe",
            {"num_hidden_layers": 64, "num_experts": 2048},
            "all experts is 131072; expected 1 to 65536",
        ),
    ],
)
def test_sizes_that_no_model_has_are_refused_by_name(
    tmp_path: Path, family: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words) as refused:
        create_checkpoint(tmp_path / "m", family=family, size=SIZE, overrides=changes)
    assert str(tmp_path / "m" / "config.json") in str(refused.value)


def test_both_names_of_the_number_of_experts_are_read(tmp_path: Path) -> None:
    for name, other in (("num_experts", "num_local_experts"), ("num_local_experts", "num_experts")):
        changes = {name: 3, other: None}
        folder = tmp_path / name
        create_checkpoint(folder, family="qwen3_moe", size=SIZE, overrides=changes)
        assert read_config(folder).num_experts == 3
        assert ours(folder)["experts"][0] == 3


def test_a_layer_has_an_mlp_where_the_config_says_so(tmp_path: Path) -> None:
    changes = {"decoder_sparse_step": 2, "mlp_only_layers": [1], "num_hidden_layers": 4}
    create_checkpoint(tmp_path / "m", family="qwen3_moe", size=SIZE, overrides=changes)
    config = read_config(tmp_path / "m")
    layers = FAMILIES[config.architecture].tensors(config).layers
    assert [hasattr(layer.mlp, "experts") for layer in layers] == [False, False, False, True]
