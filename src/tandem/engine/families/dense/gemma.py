"""Gemma 1 and 2, and the text models of Gemma 3: weights of norms about 0, a scaled embedding.

From the second on, norms behind attention and MLP too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tandem.engine.families.family import Size
from tandem.engine.families.llama import DEFAULTS, LlamaFamily, RawLlama, positive
from tandem.engine.families.rope import Rope, by_kind, read_ropes
from tandem.engine.families.wrapped import LLAVA, read_text, wrapped
from tandem.errors import CheckpointError

_NORMS = {
    "attention_norm": "input_layernorm",
    "attended_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_out_norm": "post_feedforward_layernorm",
}
_LOCAL_THETA, _GLOBAL_THETA = 1e4, 1e6


class _RawGemma(RawLlama, frozen=True, kw_only=True):
    hidden_activation: str | None = "gelu_pytorch_tanh"
    query_pre_attn_scalar: float = 256.0
    attn_logit_softcapping: float | None = None
    final_logit_softcapping: float | None = None
    use_bidirectional_attention: bool | None = None
    rope_local_base_freq: float | None = None


class GemmaFamily(LlamaFamily):
    """Tied, with windows on all but every `full_every`-th layer."""

    raw: ClassVar[type[RawLlama]] = _RawGemma
    activation_field: ClassVar[str] = "hidden_activation"

    def own_fields(self, raw: _RawGemma, path: Path) -> dict[str, Any]:
        if raw.use_bidirectional_attention:
            raise CheckpointError(
                f"{path}: use_bidirectional_attention is not supported; expected false"
            )
        scalar = positive("query_pre_attn_scalar", raw.query_pre_attn_scalar, path)
        return {
            "norm_offset": 1.0,
            "embedding_scale": math.sqrt(raw.hidden_size),
            "attention_scale": scalar**-0.5,
            "attention_softcap": self._attention_softcap(raw, path),
            "logit_softcap": _cap("final_logit_softcapping", raw.final_logit_softcapping, path),
        }

    def example_config(self, size: Size) -> dict[str, Any]:
        return {
            "rms_norm_eps": 1e-6,
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": size.head_dim,
            "sliding_window": size.context // 4,
            "tie_word_embeddings": True,
        }

    def _attention_softcap(self, raw: _RawGemma, path: Path) -> float | None:
        return _cap("attn_logit_softcapping", raw.attn_logit_softcapping, path)


class Gemma1Family(GemmaFamily):
    """No windows and no caps. `gelu` has always meant what it is called in later configs."""

    activation_field: ClassVar[str] = "hidden_act"

    def stated(self, directory: Path) -> _RawGemma:
        raw: _RawGemma = super().stated(directory)
        head_dim = raw.head_dim or raw.hidden_size // max(1, raw.num_attention_heads)
        activation = "gelu_pytorch_tanh" if raw.hidden_act == "gelu" else raw.hidden_act
        return msgspec.structs.replace(
            raw,
            hidden_act=activation,
            query_pre_attn_scalar=head_dim,
            attn_logit_softcapping=None,
            final_logit_softcapping=None,
        )

    def example_config(self, size: Size) -> dict[str, Any]:
        return super().example_config(size) | {"hidden_act": "gelu_pytorch_tanh"}


class Gemma3Family(GemmaFamily):
    """Layers with a window rotate by a base of their own. Norms of queries and keys, no softcap."""

    def ropes(
        self, raw: _RawGemma, head_dim: int, kinds: Sequence[str], path: Path
    ) -> tuple[Rope | None, ...]:
        thetas = raw.rope_theta or _GLOBAL_THETA, raw.rope_local_base_freq or _LOCAL_THETA
        return read_ropes(by_kind(raw, *thetas), head_dim, kinds, path)

    def _attention_softcap(self, raw: _RawGemma, path: Path) -> float | None:  # noqa: ARG002
        """The reference implementation heeds none either."""
        return None


class Gemma3TextFamily(Gemma3Family):
    """Gemma 3's text model within one that sees."""

    def stated(self, directory: Path) -> _RawGemma:
        return read_text(directory, _RawGemma, {**DEFAULTS, **self.defaults})

    def config_file(self, fields: dict[str, Any]) -> dict[str, Any]:
        return wrapped(fields, "gemma3_text")


def _cap(name: str, cap: float | None, path: Path) -> float | None:
    return None if cap is None else positive(name, cap, path)


_GEMMA = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}

_GEMMA3: dict[str, Any] = {
    "norms": _NORMS,
    "defaults": {**_GEMMA, "vocab_size": 262_208, "max_position_embeddings": 131_072},
    "default_eos": 1,
    "qk_norm": True,
    "always_windowed": True,
    "full_every": 6,
}

FAMILIES = {
    "GemmaForCausalLM": Gemma1Family(
        name="gemma",
        defaults={
            "vocab_size": 256_000,
            "hidden_size": 3072,
            "intermediate_size": 24_576,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 8192,
            "tie_word_embeddings": True,
        },
        default_eos=1,
    ),
    "Gemma2ForCausalLM": GemmaFamily(
        name="gemma2",
        norms=_NORMS,
        defaults={
            **_GEMMA,
            "vocab_size": 256_000,
            "max_position_embeddings": 8192,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        default_eos=1,
        always_windowed=True,
        full_every=2,
    ),
    "Gemma3ForCausalLM": Gemma3Family(name="gemma3_text", **_GEMMA3),
    "Gemma3ForConditionalGeneration": Gemma3TextFamily(name="gemma3", **_GEMMA3, **LLAVA.fields),
}
