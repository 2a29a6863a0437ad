"""A GGUF is served as it was downloaded: the service from its file to the official client."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI
from tests.support.models.smollm2 import smollm2_file
from tests.support.running_up import running_up
from tests.support.waiting import DEADLINE_S


def test_a_file_answers_a_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with (
        running_up(tmp_path / "up", f"--model={smollm2_file()}") as service,
        OpenAI(
            base_url=service.base_url, api_key=service.api_key, timeout=DEADLINE_S, max_retries=0
        ) as client,
    ):
        assert service.model == "SmolLM2-135M-Instruct.Q4_1"
        answer = client.chat.completions.create(
            model=service.model,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            temperature=0,
            max_tokens=20,
        )
    assert answer.choices[0].message.content == "The capital of France is Paris."
    assert answer.choices[0].finish_reason == "stop"
