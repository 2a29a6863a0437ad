"""The shipped demonstration model answers sensibly, and as `transformers` would."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tandem.engine import (
    Aborted,
    Completed,
    EngineEvent,
    EngineOptions,
    GenerationRequest,
    LoadedModel,
    Message,
    Progress,
    SamplingParams,
    load_engine,
    resolve_model,
)

DEMO = resolve_model("tandem-demo")
ANSWERS = {
    "Hello!": "Hello! How can I help you today?",
    "What is 3 + 4?": "3 + 4 = 7.",
    "Who are you?": "I am Tandem Demo, a small model that shows that Tandem works.",
    "Repeat after me: the quick brown fox runs": "the quick brown fox runs",
    "Repeat after me: zebra lamps glow": "zebra lamps glow",
    "Please say: owners keep their prompts": "owners keep their prompts",
    "Count to 100.": ", ".join(map(str, range(1, 101))) + ".",
    "List the days of the week.": (
        "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday."
    ),
    "Count to 25.": ", ".join(map(str, range(1, 26))) + ".",
    "Tell me a two-sentence story about a fox.": (
        "A young fox found a golden key in the forest. "
        "It opened an old gate and saw a garden full of flowers."
    ),
    "What is the capital of France?": "The capital of France is Paris.",
}

Events = queue.Queue[EngineEvent]
Loaded = tuple[LoadedModel, Events]


@pytest.fixture
def loaded() -> Iterator[Loaded]:
    events: Events = queue.Queue()

    def deliver(batch: object) -> None:
        assert isinstance(batch, list)
        for event in batch:
            events.put(event)

    model = load_engine(
        EngineOptions(directory=DEMO, device="cpu", threads=1, kv_tokens=4096), deliver
    )
    yield model, events
    assert model.engine.close()


def submit(
    loaded: Loaded,
    request_id: str,
    question: str,
    params: SamplingParams,
    *,
    samples: int = 1,
    stop: list[str] | None = None,
    cache_scope: bytes = b"",
) -> None:
    engine = loaded[0].engine
    engine.submit(
        GenerationRequest(
            request_id=request_id,
            prompts=[engine.tokenizer.encode_chat([Message("user", question)])],
            samples=samples,
            params=params,
            stop=stop or [],
            ignore_eos=False,
            deadline=time.monotonic() + 60.0,
            cache_scope=cache_scope,
        )
    )


def collect(
    loaded: Loaded, requests: int
) -> tuple[dict[tuple[str, int], str], dict[str, Completed]]:
    """Texts by (request, choice) and usage by request, once all have ended."""
    texts: dict[tuple[str, int], str] = {}
    usage: dict[str, Completed] = {}
    while len(usage) < requests:
        event = loaded[1].get(timeout=60.0)
        assert not isinstance(event, Aborted), event
        if isinstance(event, Progress):
            for delta in event.deltas:
                key = (event.request_id, delta.index)
                texts[key] = texts.get(key, "") + delta.text
        if isinstance(event, Completed):
            usage[event.request_id] = event
    return texts, usage


GREEDY = SamplingParams(max_tokens=0, temperature=0.0)


def test_answers_make_sense(loaded: Loaded) -> None:
    for question in ANSWERS:
        submit(loaded, question, question, GREEDY)
    texts, _ = collect(loaded, len(ANSWERS))
    assert {question: texts[question, 0] for question in ANSWERS} == ANSWERS


def test_greedy_text_equals_transformers() -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained(DEMO)
    model: Any = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    for question, answer in ANSWERS.items():
        messages = [{"role": "user", "content": question}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        output = model.generate(**inputs, max_new_tokens=400, do_sample=False)
        prompt_length = inputs["input_ids"].shape[1]
        assert tokenizer.decode(output[0, prompt_length:], skip_special_tokens=True) == answer


def test_sampled_choices_do_not_depend_on_the_batch(loaded: Loaded) -> None:
    wild = SamplingParams(max_tokens=24, temperature=2.5, seed=11)
    for question in ANSWERS:
        submit(loaded, question, question, wild, samples=2)
    together, _ = collect(loaded, len(ANSWERS))
    alone: dict[tuple[str, int], str] = {}
    for question in ANSWERS:
        submit(loaded, question, question, wild, samples=2)
        alone |= collect(loaded, 1)[0]
    assert together == alone
    assert any(together[q, 0] != together[q, 1] for q in ANSWERS), "choices must differ"


def test_a_repeated_prompt_is_not_prefilled_again(loaded: Loaded) -> None:
    question = "Repeat after me: " + "river stone cloud " * 12
    cached = []
    for request_id in ("first", "second"):
        submit(loaded, request_id, question, GREEDY)
        cached.append(collect(loaded, 1)[1][request_id].cached_tokens)
    assert cached[0] == 0
    assert cached[1] >= 32


def test_what_is_cached_does_not_tell_what_another_scope_has_asked(loaded: Loaded) -> None:
    secret = "Repeat after me: " + "river stone cloud " * 12
    cached: list[int] = []
    for scope in (b"mine", b"yours", b"mine"):
        name = f"{scope!r} {len(cached)}"
        submit(loaded, name, secret, GREEDY, cache_scope=scope)
        cached.append(collect(loaded, 1)[1][name].cached_tokens)
    assert cached[:2] == [0, 0]
    assert cached[2] >= 32


def test_a_stop_string_ends_the_text_before_it(loaded: Loaded) -> None:
    submit(loaded, "days", "List the days of the week.", GREEDY, stop=["Wednes", "never"])
    texts, _ = collect(loaded, 1)
    assert texts["days", 0] == "Monday, Tuesday, "


def test_cancelled_requests_give_their_blocks_back(loaded: Loaded) -> None:
    engine = loaded[0].engine
    for number in range(200):
        submit(loaded, f"cancelled-{number}", "Count to 100.", GREEDY)
        if number % 3 == 0:
            while not isinstance(loaded[1].get(timeout=60.0), Progress):
                pass
        engine.cancel(f"cancelled-{number}")
    submit(loaded, "last", "Hello!", GREEDY)
    while True:
        event = loaded[1].get(timeout=60.0)
        if isinstance(event, Completed) and event.request_id == "last":
            break
    stats = engine.stats()
    assert (stats.running, stats.waiting) == (0, 0)
    assert stats.free_blocks == stats.total_blocks
