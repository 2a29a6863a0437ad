"""How far what a model says of each next token is from `transformers` in float32.

Every engine and format goes through the same texts, and gives a distribution for each token but the
first few. Compared by the Kullback-Leibler divergence, in nats: how many of them are lost when the
one distribution stands for the other.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence

import msgspec
import torch

from benchmarks.engines import llama_cpp_logits, tandem_logits, transformers_logits
from benchmarks.engines.expanded import expanded, is_quantised
from benchmarks.engines.passages import PASSAGES
from tandem.bench import Job
from tandem.engine import CacheFormat, Quantization, Tokenizer
from tandem.errors import ConfigurationError

Predict = Callable[[Job, Sequence[list[int]], int], torch.Tensor]
"""(job, texts, known tokens of each) → float32 (texts, tokens - known, vocabulary) logits.

All texts are of one length; the last token of each is not read, only foretold.
"""

_INT8 = CacheFormat.INT8
_GGUF_TYPES = ("Q8_0", "Q4_0")
#: So many tokens begin each text; nothing is asked about those.
KNOWN = 16


class Subject(msgspec.Struct, frozen=True):
    """A way to compute a model, which takes part where `package` is installed."""

    name: str
    kind: str
    package: str
    predict: Predict

    @property
    def installed(self) -> bool:
        return importlib.util.find_spec(self.package) is not None


class Divergence(msgspec.Struct, frozen=True):
    """From the reference, over `tokens` tokens.

    `agreement` is the share of tokens for which both think the same one the likeliest.
    """

    name: str
    kind: str
    mean: float
    largest: float
    agreement: float
    tokens: int


def _of_type(kind: str) -> tuple[Subject, Subject]:
    """Both on one file."""
    ours, theirs = tandem_logits.predict("auto", gguf=kind), llama_cpp_logits.predict(kind)
    return Subject("Tandem", kind, "gguf", ours), Subject("llama.cpp", kind, "llama_cpp", theirs)


REFERENCE: Predict = transformers_logits.predict("float32")
SUBJECTS = (
    Subject("Tandem", "float32", "tandem", tandem_logits.predict(dtype="float32")),
    Subject("Tandem", "bfloat16", "tandem", tandem_logits.predict(dtype="bfloat16")),
    Subject("transformers", "bfloat16", "transformers", transformers_logits.predict("bfloat16")),
    *(
        Subject("Tandem", f"{kind}", "tandem", tandem_logits.predict("bfloat16", quantization=kind))
        for kind in Quantization
    ),
    Subject("Tandem", "int8 cache", "tandem", tandem_logits.predict("bfloat16", kv_cache=_INT8)),
    Subject("llama.cpp", "BF16", "llama_cpp", llama_cpp_logits.predict("BF16")),
    *(subject for kind in _GGUF_TYPES for subject in _of_type(kind)),
)


def measure_quality(
    job: Job, tokens: int, subjects: Sequence[Subject], on_progress: Callable[[str], None]
) -> Iterator[Divergence]:
    """Those that are installed, one after the other, on texts of so many tokens.

    Of a model in few bits all but the first compute what its codes stand for, in float32.
    Raises ConfigurationError where the tokenizer makes fewer tokens of a text.
    """
    texts = _texts(job, tokens)
    torch.set_num_threads(job.threads)
    if is_quantised(job.model):
        stored, job = job, Job(expanded(job.model, job.scratch), job.scratch, job.threads)
        subjects = (Subject("Tandem", "as stored", "tandem", _as(stored)), *subjects)
    on_progress("transformers float32, the reference")
    expected = REFERENCE(job, texts, KNOWN)
    for subject in subjects:
        if subject.installed:
            on_progress(f"{subject.name} {subject.kind}")
            yield compared(subject, expected, subject.predict(job, texts, KNOWN))


def _as(stored: Job) -> Predict:
    """In bfloat16, from the file itself."""
    predict = tandem_logits.predict("auto")
    return lambda _, texts, known: predict(stored, texts, known)


def compared(subject: Subject, expected: torch.Tensor, found: torch.Tensor) -> Divergence:
    """Of logits (texts, tokens, vocabulary)."""
    pairs = zip(expected.flatten(0, 1), found.flatten(0, 1), strict=True)
    divergences = torch.stack([_divergence(*pair) for pair in pairs])
    agree = expected.argmax(dim=-1) == found.argmax(dim=-1)
    return Divergence(
        subject.name,
        subject.kind,
        mean=float(divergences.mean()),
        largest=float(divergences.max()),
        agreement=float(agree.double().mean()),
        tokens=len(divergences),
    )


def _divergence(expected: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """Of one token's logits, in float64: small ones are differences of large numbers."""
    wanted, given = (torch.log_softmax(one.double(), dim=-1) for one in (expected, found))
    return (wanted.exp() * (wanted - given)).sum()


def _texts(job: Job, tokens: int) -> list[list[int]]:
    tokenizer = Tokenizer(job.model)
    texts = [tokenizer.encode(passage)[:tokens] for passage in PASSAGES]
    shortest = min(len(text) for text in texts)
    if shortest < tokens:
        raise ConfigurationError(f"--tokens is {tokens}: a text has {shortest} by this tokenizer")
    return texts
