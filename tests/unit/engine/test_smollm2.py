"""A model that people use answers real questions: SmolLM2-135M-Instruct, a GGUF of four bits."""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.models.divided import Runner
from tests.support.models.gguf_models import as_state_dict
from tests.support.models.smollm2 import smollm2_file
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from tandem.engine import (
    Aborted,
    CacheFormat,
    Completed,
    EngineEvent,
    EngineOptions,
    GenerationRequest,
    Message,
    Progress,
    SamplingParams,
    load_engine,
    model_name,
    prepare,
    resolve_model,
)
from tandem.engine.text.tokenizer import Tokenizer

ANSWERS = {
    "What is the capital of France?": "The capital of France is Paris.",
    "How many days are in a week?": "A week is approximately 7 days.",
}
BLOCKS = list(range(64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return resolve_model(str(smollm2_file()))


def reference(folder: Path) -> Any:  # noqa: ANN401 - its methods have no types
    """Made without numbers first: random ones would take longer than all else here."""
    config: Any = LlamaConfig.from_pretrained(folder)
    config._attn_implementation = "eager"
    with torch.device("meta"):
        model: Any = LlamaForCausalLM(config)
    model.eval()
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    tensors = as_state_dict(smollm2_file(), model.state_dict(), heads)
    weights = {name: torch.tensor(numbers) for name, numbers in tensors.items()}
    left_out = model.load_state_dict(weights, strict=False, assign=True)
    assert left_out.missing_keys == ["lm_head.weight"]  # which is the embedding
    model.tie_weights()
    model.model.rotary_emb = LlamaRotaryEmbedding(config)
    return model


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, tuple[list[int], list[int]]]:
    """Prompt and greedy answer of each question, as `transformers` computes them in float32."""
    oracle = reference(folder)
    tokenizer = Tokenizer(folder)
    found = {}
    for question in ANSWERS:
        prompt = tokenizer.encode_chat([Message("user", question)])
        tokens = oracle.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)
        found[question] = prompt, tokens[0, len(prompt) :].tolist()
    return found


def test_the_reference_answers_so(
    folder: Path, told: dict[str, tuple[list[int], list[int]]]
) -> None:
    tokenizer = Tokenizer(folder)
    assert {question: tokenizer.decode(answer) for question, (_, answer) in told.items()} == ANSWERS


@pytest.mark.parametrize("way", ["alone", "tp3", "pp2"])
def test_every_token_is_the_references(
    folder: Path, told: dict[str, tuple[list[int], list[int]]], way: str
) -> None:
    """Nine heads and three of keys and values: three ranks have three and one each."""
    runner = Runner(folder, way)
    for prompt, answer in told.values():
        logits = runner.step(([*prompt, *answer[:-1]], 0, BLOCKS))
        assert logits[len(prompt) - 1 :].argmax(dim=-1).tolist() == answer


def test_an_engine_answers_questions(folder: Path) -> None:
    events: queue.Queue[EngineEvent] = queue.Queue()
    options = EngineOptions(directory=folder, device="cpu", threads=1, kv_tokens=1024)

    def deliver(batch: Sequence[EngineEvent]) -> None:
        for event in batch:
            events.put(event)

    engine = load_engine(options, deliver).engine
    for question in ANSWERS:
        engine.submit(
            GenerationRequest(
                request_id=question,
                prompts=[engine.tokenizer.encode_chat([Message("user", question)])],
                samples=1,
                params=SamplingParams(max_tokens=20, temperature=0.0),
                stop=[],
                ignore_eos=False,
                deadline=time.monotonic() + 200.0,
                cache_scope=b"",
            )
        )
    texts, ended = dict.fromkeys(ANSWERS, ""), 0
    while ended < len(ANSWERS):
        event = events.get(timeout=200.0)
        assert not isinstance(event, Aborted), event
        if isinstance(event, Progress):
            for delta in event.deltas:
                texts[event.request_id] += delta.text
        ended += isinstance(event, Completed)
    assert texts == ANSWERS
    assert engine.close()


def test_what_it_computes_in_is_wider_than_what_it_is_kept_in(folder: Path) -> None:
    """On CPUs; in bfloat16 throughout it would begin its answer in French."""
    setup = prepare(EngineOptions(directory=folder, device="cpu"))
    assert (setup.config.dtype, setup.dtype, setup.kv_cache) == ("bfloat16", "float32", "bfloat16")
    assert not setup.exact
    asked = prepare(EngineOptions(directory=folder, device="cpu", dtype="bfloat16"))
    assert (asked.dtype, asked.kv_cache, asked.exact) == ("bfloat16", None, True)
    fewer = prepare(EngineOptions(directory=folder, device="cpu", kv_cache=CacheFormat.INT8))
    assert (fewer.dtype, fewer.kv_cache) == ("float32", "int8")


def test_it_is_called_by_its_file() -> None:
    assert model_name(str(smollm2_file())) == "SmolLM2-135M-Instruct.Q4_1"
