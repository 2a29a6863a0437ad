"""Requests on a provider: what is refused, and in which words."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from tandem import engine, protocol
from tandem.provider.runner import RequestRunner

MODEL = protocol.ModelName("m")


def refused(work: protocol.Work, model: protocol.ModelName = MODEL) -> protocol.ErrorInfo:
    """Runs work on a provider of MODEL that must refuse it, and returns with what."""
    runner = RequestRunner(cast("engine.Tokenizer", None), MODEL)
    runner.attach(cast("engine.Engine", object()))
    sent: list[protocol.AnswerPart] = []
    request = protocol.Request(protocol.RequestId("r"), 0, model, 60.0, 32, b"sealed")
    asyncio.run(runner.start(request, work, sent.append, 0.0))
    (failed,) = sent
    assert isinstance(failed, protocol.Failed)
    assert (runner.started, runner.failed) == (1, 1)
    asyncio.run(runner.wait_idle())
    return failed.error


def embed() -> protocol.Embed:
    return protocol.Embed(b"k" * 32, [protocol.TextPrompt("hi")])


def test_an_engine_that_cannot_embed_says_so_by_name() -> None:
    error = refused(embed())
    assert (error.code, error.param) == ("unsupported_parameter", "model")
    assert "`m`" in error.message
    # It is the request's fault: another provider would say the same, and nobody is blamed.
    assert error.to_error().status == 400


def test_another_model_is_not_here() -> None:
    for work in (embed(), _generate()):
        assert refused(work, protocol.ModelName("other")).code == "model_not_found"


def _generate(**sampling: Any) -> protocol.Generate:  # noqa: ANN401 - any parameter
    prompts: list[protocol.Prompt] = [protocol.TokenPrompt([1])]
    return protocol.Generate(b"k" * 32, prompts, 1, protocol.Sampling(**sampling))
