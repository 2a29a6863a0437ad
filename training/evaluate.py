"""Measures a demonstration model as a user would meet it: greedy, in float32, with transformers.

    python training/evaluate.py src/tandem/assets/tandem-demo

Prints the accuracy of each question set, and how sure the model was of each answer's least certain
token (`margin`: the median over the set). Exits with 1 when a set is below its threshold.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
)

from questions import Question, QuestionSet, question_sets

LONGEST_ANSWER = 320
TOKENS_PER_BATCH = 16_000


@dataclass(frozen=True)
class Answer:
    text: str
    #: The smallest lead of a chosen token over the runner-up, as a probability.
    margin: float


class Model:
    """A saved model, asked in batches."""

    def __init__(self, directory: Path, dtype: torch.dtype = torch.float32) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype)
        self._model.eval()

    def answer(self, questions: list[Question]) -> list[Answer]:
        """In the order asked; computed by length, so that little padding is needed."""
        prompts = [self._encode(question) for question in questions]
        answers: dict[int, Answer] = {}
        for batch in _batches([len(prompt) for prompt in prompts]):
            answers.update(zip(batch, self._generate([prompts[i] for i in batch]), strict=True))
        return [answers[i] for i in range(len(questions))]

    def _encode(self, question: Question) -> list[int]:
        text = self._tokenizer.apply_chat_template(
            question.messages(), tokenize=False, add_generation_prompt=True
        )
        return list(self._tokenizer.encode(text, add_special_tokens=True))

    def _generate(self, prompts: list[list[int]]) -> Iterator[Answer]:
        longest, pad = max(map(len, prompts)), self._tokenizer.pad_token_id
        padding = [longest - len(prompt) for prompt in prompts]
        result = self._model.generate(
            torch.tensor([[pad] * n + p for n, p in zip(padding, prompts, strict=True)]),
            attention_mask=torch.tensor([[0] * n + [1] * (longest - n) for n in padding]),
            max_new_tokens=LONGEST_ANSWER,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
        best = torch.stack(result.logits, 1).float().softmax(-1).topk(2).values
        answers, leads_of_all = result.sequences[:, longest:], best[..., 0] - best[..., 1]
        for ids, leads in zip(answers, leads_of_all, strict=True):
            end = (ids == self._tokenizer.eos_token_id).nonzero()
            length = int(end[0]) if len(end) else len(ids)
            text = str(self._tokenizer.decode(ids[:length]))
            yield Answer(text, float(leads[: length + 1].min()))


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * (lengths[i] + LONGEST_ANSWER // 4) > TOKENS_PER_BATCH:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


@torch.inference_mode()
def evaluate(directory: Path, *, verbose: bool = False) -> int:
    """The exit status: 0 when every set reaches its threshold."""
    model, failed = Model(directory), False
    print(f"{'question set':34}{'asked':>7}{'right':>9}{'needed':>9}{'margin':>9}{'lowest':>9}")
    for questions in question_sets():
        answers = model.answer(list(questions.questions))
        failed |= not _report(questions, answers, verbose=verbose)
    agreement = _agreement(directory)
    print(f"bfloat16 answers equal to float32's: {agreement:.1%}")
    return int(failed)


def _report(asked: QuestionSet, answers: list[Answer], *, verbose: bool) -> bool:
    pairs = list(zip(asked.questions, answers, strict=True))
    wrong = [(question, answer) for question, answer in pairs if answer.text != question.expected]
    accuracy = 1 - len(wrong) / len(pairs)
    margins = sorted(answer.margin for answer in answers)
    print(
        f"{asked.name:34}{len(pairs):7}{accuracy:9.2%}{asked.needed:9.1%}"
        f"{margins[len(margins) // 2]:9.4f}{margins[0]:9.4f}",
        flush=True,
    )
    for question, answer in wrong if verbose else []:
        print(f"    {question.text[-60:]!r}: {answer.text!r}, not {question.expected!r}")
    return accuracy >= asked.needed


def _agreement(directory: Path) -> float:
    """How often bfloat16 arithmetic gives the very same answer, over a few of each set."""
    sample = [question for asked in question_sets() for question in asked.questions[:12]]
    exact = Model(directory).answer(sample)
    rounded = Model(directory, torch.bfloat16).answer(sample)
    same = [a.text == b.text for a, b in zip(exact, rounded, strict=True)]
    return sum(same) / len(same)


def main() -> int:
    parser = argparse.ArgumentParser(description="Evaluates the demonstration model.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="show the wrong answers")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    return evaluate(options.directory, verbose=options.verbose)


if __name__ == "__main__":
    sys.exit(main())
