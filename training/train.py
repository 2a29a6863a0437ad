"""Trains `tandem-demo` from nothing and writes it in Hugging Face layout.

    python training/train.py --out src/tandem/assets/tandem-demo --minutes 75 --threads 2 --compile

Computes in bfloat16 over float32 master weights and saves bfloat16. `evaluate.py` then runs on
the files that were saved; its verdict is the exit status.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AttentionInterface, GenerationConfig, LlamaConfig, LlamaForCausalLM

from evaluate import evaluate
from rows import Batch, batches
from tokenizer import (
    BEGIN,
    END,
    ENDOFTEXT,
    VOCABULARY,
    save_tokenizer,
    token_id,
    train_tokenizer,
    twins,
)

CONTEXT_LENGTH = 2048
WARM_UP = 0.04
SAVE_EVERY_STEPS = 500


def configuration(tokenizer: Tokenizer) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=token_id(tokenizer, BEGIN),
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, ENDOFTEXT),
    )


def float32_attention(
    module: torch.nn.Module,  # noqa: ARG001 - the interface's signature
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - rows are full, so causal is enough
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Causal attention in float32: its backward pass on a CPU takes half the time of bfloat16."""
    groups = query.shape[1] // key.shape[1]
    with torch.autocast("cpu", enabled=False):
        attended = torch.nn.functional.scaled_dot_product_attention(
            query.float(),
            key.float().repeat_interleave(groups, 1),
            value.float().repeat_interleave(groups, 1),
            is_causal=True,
        )
    return attended.transpose(1, 2).to(query.dtype).contiguous(), None


@torch.no_grad()
def alike(model: LlamaForCausalLM, tokenizer: Tokenizer) -> None:
    """Starts " word" as "word" plus what all space-led tokens share.

    Copying needs this: a phrase's first word has a space before it where it is read and none
    where it is said, and to learn that for each word apart takes most of the training.
    """
    embedding = model.model.embed_tokens.weight
    space = torch.randn(embedding.shape[1]) * embedding.std()
    for plain, spaced in twins(tokenizer):
        embedding[spaced] = embedding[plain] + space


class Optimizer:
    """Muon for the layers' matrices, AdamW for the embedding and the norms, one schedule."""

    def __init__(self, model: LlamaForCausalLM, peak: float) -> None:
        matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(matrices, lr=peak, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self._peak = peak

    def step(self, progress: float) -> None:
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = self._peak * schedule(progress)
            part.step()
            part.zero_grad(set_to_none=True)


def schedule(progress: float) -> float:
    """Linear warm-up, then a cosine down to almost nothing."""
    if progress < WARM_UP:
        return max(progress, 0.001) / WARM_UP
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def loss_of(body: torch.nn.Module, head: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Weighted cross-entropy; the head runs only where a token counts."""
    ids, weights = batch
    counted = weights[:, 1:] > 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = body(input_ids=ids, use_cache=False).last_hidden_state[:, :-1][counted]
        logits = head(hidden)
    each = torch.nn.functional.cross_entropy(logits.float(), ids[:, 1:][counted], reduction="none")
    weight = weights[:, 1:][counted]
    return (each * weight).sum() / weight.sum()


def train(model: LlamaForCausalLM, tokenizer: Tokenizer, options: argparse.Namespace) -> None:
    optimizer = Optimizer(model, options.peak)
    body = torch.compile(model.model, dynamic=False) if options.compile else model.model
    budget, started, smooth = options.minutes * 60, time.monotonic(), 8.0
    for step, batch in enumerate(batches(tokenizer, options.seed), start=1):
        elapsed = time.monotonic() - started
        if elapsed >= budget:
            return
        loss = loss_of(body, model.lm_head, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step(elapsed / budget)
        smooth += 0.04 * (loss.item() - smooth)
        if step % 25 == 0:
            print(f"step {step}  minutes {elapsed / 60:.1f}  loss {smooth:.4f}", flush=True)
        if step % SAVE_EVERY_STEPS == 0:
            save(model, tokenizer, options.out)


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, directory: Path) -> None:
    """Writes a bfloat16 copy; training goes on in float32."""
    copy = LlamaForCausalLM(configuration(tokenizer)).to(torch.bfloat16)
    copy.load_state_dict(model.state_dict())
    end, endoftext = token_id(tokenizer, END), token_id(tokenizer, ENDOFTEXT)
    copy.generation_config = GenerationConfig(
        bos_token_id=token_id(tokenizer, BEGIN),
        eos_token_id=[end, endoftext],
        pad_token_id=endoftext,
    )
    copy.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    save_tokenizer(tokenizer, directory, CONTEXT_LENGTH)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains the demonstration model.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=55.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peak", type=float, default=3e-3, help="peak learning rate")
    parser.add_argument("--compile", action="store_true", help="a third faster; needs a C compiler")
    return parser.parse_args()


def main() -> int:
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    AttentionInterface.register("float32", float32_attention)
    tokenizer = train_tokenizer(options.seed)
    assert tokenizer.get_vocab_size() == VOCABULARY
    model = LlamaForCausalLM(configuration(tokenizer))
    alike(model, tokenizer)
    model.set_attn_implementation("float32")
    parameters = sum(p.numel() for p in model.parameters())
    print(f"vocabulary {tokenizer.get_vocab_size()}  parameters {parameters}", flush=True)
    train(model, tokenizer, options)
    save(model, tokenizer, options.out)
    return evaluate(options.out)


if __name__ == "__main__":
    sys.exit(main())
