"""What `tokenizer_class` adds to a `tokenizer.json`, as `transformers` has it.

Only Llama's SentencePiece tokenizer differs from what its file says: `transformers` builds its
parts by itself. A space goes before the text alone then, and not before what follows a special
token, as the models were trained; exports of older versions still have it otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tandem.engine.checkpoint.config import CONFIG_FILE, read_identity
from tandem.engine.checkpoint.files import is_there

if TYPE_CHECKING:
    from tokenizers import Tokenizer as HFTokenizer

_SPACE = "\u2581"  # how SentencePiece writes one


def apply_tokenizer_class(
    tokenizer: HFTokenizer, directory: Path, settings: Mapping[str, Any]
) -> None:
    """Changes the tokenizer in place. Raises CheckpointError for a `config.json` that is none."""
    name = settings.get("tokenizer_class")
    if not isinstance(name, str) or name.removesuffix("Fast") != "LlamaTokenizer":
        return
    if not is_there(directory / CONFIG_FILE) or read_identity(directory).model_type != "llama":
        return
    if type(tokenizer.model).__name__ == "BPE" and '"ByteLevel"' not in tokenizer.to_str():
        _as_sentencepiece(tokenizer, settings)


def _as_sentencepiece(tokenizer: HFTokenizer, settings: Mapping[str, Any]) -> None:
    from tokenizers import decoders, pre_tokenizers

    prefixed = settings.get("add_prefix_space") is not False
    scheme = ("always" if settings.get("legacy") else "first") if prefixed else "never"
    model = tokenizer.model
    model.fuse_unk, model.byte_fallback, model.dropout = True, True, None
    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme=scheme, split=False)
    parts: list[Any] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if prefixed:
        parts.append(decoders.Strip(content=" ", left=1))
    tokenizer.decoder = decoders.Sequence(parts)
