"""Between the protocol's messages and the engine's types: one place, both directions."""

from __future__ import annotations

import secrets

from tandem import engine, protocol
from tandem.errors import InvalidRequest

#: Sampling parameters that go on under their name; stop strings go on beside them.
_SAME_NAME = frozenset(protocol.Sampling.__struct_fields__) & frozenset(
    engine.SamplingParams.__struct_fields__
)
_DEFAULTED = engine.SamplingDefaults.__struct_fields__


def prompt_text(prompt: protocol.Prompt) -> str | list[engine.Message] | None:
    """What is to be tokenised of a prompt; None for one that has its tokens."""
    if isinstance(prompt, protocol.ChatPrompt):
        return [engine.Message(m.role, m.content, m.name) for m in prompt.messages]
    return prompt.text if isinstance(prompt, protocol.TextPrompt) else None


def sampling_params(
    sampling: protocol.Sampling, defaults: engine.SamplingDefaults
) -> engine.SamplingParams:
    """`defaults` are the model's own.

    Raises InvalidRequest when `max_tokens` is below 1, or a biased token cannot be.
    """
    if sampling.max_tokens is not None and sampling.max_tokens < 1:
        raise InvalidRequest("max_tokens must be at least 1", param="max_tokens")
    same = {name: getattr(sampling, name) for name in _SAME_NAME}
    if not sampling.model_defaults:
        defaults = engine.SamplingDefaults()
    unsaid = {name: getattr(defaults, name) for name in _DEFAULTED if same[name] is None}
    translated = {
        "logit_bias": engine.LogitBias.of(sampling.logit_bias),
        "max_tokens": sampling.max_tokens or 0,
        "seed": secrets.randbits(63) if sampling.seed is None else sampling.seed,
        "stop_token_ids": frozenset(sampling.stop_token_ids),
    }
    return engine.SamplingParams(**(same | unsaid | translated))


def delta(own: engine.ChoiceDelta) -> protocol.Delta:
    return protocol.Delta(
        index=own.index,
        text=own.text,
        token_ids=own.token_ids,
        logprobs=None if own.logprobs is None else [_logprob(entry) for entry in own.logprobs],
        finish=None if own.finish is None else protocol.FinishReason(own.finish.value),
    )


def _logprob(entry: engine.LogprobEntry) -> protocol.TokenLogprob:
    """Of a token that is longer than any has to be, the beginning."""
    most = protocol.MAX_TOKEN_BYTES
    top = [
        protocol.TopLogprob(t.text[:most], t.token_id, t.logprob, t.raw[:most]) for t in entry.top
    ]
    text, raw = entry.text[:most], entry.raw[:most]
    return protocol.TokenLogprob(text, entry.token_id, entry.logprob, raw, top)
