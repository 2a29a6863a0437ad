"""What files and configs of DeepSeek may say, and what plans make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tandem.engine import families
from tandem.engine.checkpoint.dtypes import CacheFormat
from tandem.engine.families import Size, read_config
from tandem.engine.families.mlp import ExpertGroups, Routing
from tandem.engine.inspect import inspect_checkpoint
from tandem.engine.load import prepare
from tandem.engine.options import EngineOptions
from tandem.engine.random_checkpoint import create_checkpoint
from tandem.errors import CheckpointError, ConfigurationError

SIZE = Size(2, 48, 80, 4, 4, 12, 301, 64, experts=8, experts_per_token=3, expert_columns=20)
V2, V3 = "deepseek_v2", "deepseek_v3"


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        (V2, {"topk_method": "noaux_tc"}, "topk_method is 'noaux_tc'; expected one of"),
        (V3, {"topk_method": "greedy"}, "topk_method is 'greedy'"),
        (V3, {"scoring_func": "softmax"}, "scoring_func is 'softmax'; expected 'sigmoid'"),
        (V2, {"norm_topk_prob": True}, "norm_topk_prob is True; expected false"),
        (V3, {"n_group": 3}, "n_group is 3; expected a divisor of 8 experts, 2 a group"),
        (V3, {"n_group": 8}, "n_group is 8"),
        (V3, {"n_group": None}, "n_group is 0"),
        (V3, {"n_group": 4, "topk_group": 5}, "topk_group is 5; expected 1 to 4"),
        (
            V3,
            {"n_group": 4, "topk_group": 1},
            "num_experts_per_tok is 3; expected 1 to 2",
        ),
        (V3, {"moe_layer_freq": 2}, "moe_layer_freq is 2; expected 1"),
        (V3, {"first_k_dense_replace": -1}, "first_k_dense_replace is -1"),
        (V3, {"n_shared_experts": 0}, "n_shared_experts is 0"),
        (V3, {"num_nextn_predict_layers": 65}, "num_nextn_predict_layers is 65"),
        (V3, {"routed_scaling_factor": 0.0}, "routed_scaling_factor is 0.0"),
        (V3, {"kv_lora_rank": 0}, "kv_lora_rank is 0"),
        (V3, {"q_lora_rank": -1}, "q_lora_rank is -1"),
        (V3, {"v_head_dim": 2**17}, "v_head_dim is 131072"),
        (V2, {"qk_nope_head_dim": 10**30}, "head_dim is out of all bounds"),
        (V2, {"qk_rope_head_dim": 5}, "qk_rope_head_dim is 5; expected an even number"),
        (
            V2,
            {"rope_scaling": {"type": "dynamic", "mscale_all_dim": 1.0}},
            "factor is None; rope_type 'dynamic' needs one",
        ),
    ],
)
def test_what_no_layer_computes_is_refused_by_name(
    tmp_path: Path, family: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError, match=words) as refused:
        create_checkpoint(tmp_path / "m", family=family, size=SIZE, overrides=changes)
    assert str(tmp_path / "m" / "config.json") in str(refused.value)


@pytest.mark.parametrize("family", [V2, V3, "glm4_moe"])
def test_there_are_no_windows(tmp_path: Path, family: str) -> None:
    stated = {"use_sliding_window": True, "sliding_window": 5}
    create_checkpoint(tmp_path / "m", family=family, size=SIZE, overrides=stated)
    assert read_config(tmp_path / "m").sliding_windows == (None, None)


def test_groups_that_are_all_chosen_are_none(tmp_path: Path) -> None:
    def routing(name: str, **changes: int) -> Routing | None:
        create_checkpoint(tmp_path / name, family=V3, size=SIZE, overrides=changes)
        found: Routing | None = getattr(read_config(tmp_path / name), "routing", None)
        return found

    plain = Routing(top_k=3, renormalised=True, sigmoid=True, scale=1.5)
    assert routing("all", n_group=4, topk_group=4) == plain
    some = Routing(3, True, True, ExpertGroups(count=4, chosen=2, best=2), 1.5)
    assert routing("some", n_group=4, topk_group=2) == some


def test_kimi_k2_is_known_by_its_architecture(tmp_path: Path) -> None:
    create_checkpoint(tmp_path / "m", family=V3, size=SIZE, overrides={"model_type": "kimi_k2"})
    assert read_config(tmp_path / "m").architecture == "DeepseekV3ForCausalLM"


@pytest.mark.parametrize("family", [V3, "glm4_moe"])
def test_layers_that_guess_ahead_are_not_read(tmp_path: Path, family: str) -> None:
    stated = {"num_nextn_predict_layers": 2}
    folders = {number: tmp_path / str(number) for number in (2, 3)}
    for number, folder in folders.items():
        create_checkpoint(folder, family=family, size=SIZE, dtype="float32", overrides=stated)
        tensors = load_file(folder / "model.safetensors")
        tensors |= {
            f"model.layers.{SIZE.layers + ahead}.{name}": torch.ones(3, 4)
            for ahead in range(number)
            for name in (
                "eh_proj.weight",
                "mlp.experts.0.up_proj.weight",
                "shared_head.norm.weight",
            )
        }
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert inspect_checkpoint(folders[2]).layers == SIZE.layers
    with pytest.raises(CheckpointError, match=r"layers\.4\.\S+ is unexpected"):
        inspect_checkpoint(folders[3])


def test_a_token_takes_what_its_latents_take(tmp_path: Path) -> None:
    changes = {"kv_lora_rank": 512, "qk_rope_head_dim": 64}
    create_checkpoint(tmp_path / "m", family=V2, size=SIZE, overrides=changes)
    config = read_config(tmp_path / "m")
    assert families.kv_bytes_per_token(config, "bfloat16") == SIZE.layers * 576 * 2
    assert families.kv_bytes_per_token(config, "float32") == SIZE.layers * 576 * 4
    kept = families.kv_bytes_per_token(config, "float32", CacheFormat.BFLOAT16)
    assert kept == SIZE.layers * 576 * 2


def test_a_latent_is_not_kept_in_eight_bits(tmp_path: Path) -> None:
    create_checkpoint(tmp_path / "m", family=V2, size=SIZE)
    with pytest.raises(ConfigurationError, match=r"kv_cache is int8, which DeepseekV2ForCausalLM"):
        prepare(EngineOptions(directory=tmp_path / "m", kv_cache=CacheFormat.INT8))
