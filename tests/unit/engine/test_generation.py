"""What the tokens of a step become: text, finish, logprobs, usage."""

from __future__ import annotations

from collections.abc import Sequence as Items

import pytest

from tandem.engine import (
    DEMO_MODEL,
    Aborted,
    ChoiceDelta,
    Completed,
    Finish,
    Progress,
    SamplingParams,
    Tokenizer,
    resolve_model,
)
from tandem.engine.core.scheduler import Outcome, Sampled
from tandem.engine.core.sequence import Sequence
from tandem.engine.core.step import SampledToken
from tandem.engine.generation import Choice, Generation
from tandem.engine.text.detokenizer import StreamDetokenizer
from tandem.engine.text.stops import StopMatcher, StopStrings
from tandem.errors import ExecutorFailed

TOKENIZER = Tokenizer(resolve_model(DEMO_MODEL))
PROMPT = [5, 6, 7]


def choice(number: int = 0, *, stop: Items[str] = (), produced: Items[int] = ()) -> Choice:
    params = SamplingParams(max_tokens=99)
    sequence = Sequence(number, 0, number, [*PROMPT, *produced], params, len(PROMPT))
    found = Choice(
        number, sequence, StreamDetokenizer(TOKENIZER.decode), StopMatcher(StopStrings(stop))
    )
    found.replay()
    return found


def fed(one: Choice, text: str, last: Outcome = Outcome.CONTINUES) -> list[ChoiceDelta]:
    """The deltas of a text's tokens, of which the last has that outcome."""
    tokens = TOKENIZER.encode(text)
    outcomes = [Outcome.CONTINUES] * (len(tokens) - 1) + [last]
    return [
        one.accept(Sampled(one.sequence, SampledToken(0, token), outcome), TOKENIZER)
        for token, outcome in zip(tokens, outcomes, strict=True)
    ]


def text_of(deltas: list[ChoiceDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_tokens_become_text_and_none_is_lost() -> None:
    deltas = fed(choice(), "river stone", Outcome.LENGTH)
    assert text_of(deltas) == "river stone"
    assert [delta.finish for delta in deltas[:-1]] == [None] * (len(deltas) - 1)
    assert deltas[-1].finish is Finish.LENGTH
    assert [i for delta in deltas for i in delta.token_ids] == TOKENIZER.encode("river stone")


def test_a_stop_string_ends_a_choice_and_is_no_part_of_it() -> None:
    one = choice(stop=["st"])
    deltas = fed(one, "river stone")
    assert text_of(deltas).rstrip() == "river"
    assert one.finish is Finish.STOP


def test_what_looked_like_a_stop_string_comes_out_at_the_end() -> None:
    one = choice(stop=["stones"])
    assert text_of(fed(one, "river stone", Outcome.LENGTH)) == "river stone"


def test_an_end_token_has_no_text_and_lets_out_what_was_held_back() -> None:
    one = choice(stop=["stones"])
    before = text_of(fed(one, "river stone"))
    end = SampledToken(0, 0, logprob=-1.0)
    delta = one.accept(Sampled(one.sequence, end, Outcome.STOPPED), TOKENIZER)
    assert before + delta.text == "river stone"
    assert (delta.token_ids, delta.logprobs, delta.finish) == ([0], None, Finish.STOP)


def test_a_resumed_choice_gives_only_what_follows() -> None:
    tokens = TOKENIZER.encode("river stone")
    one = choice(produced=tokens[:-2])
    whole = TOKENIZER.decode(tokens)
    rest = text_of(fed(one, whole[len(TOKENIZER.decode(tokens[:-2])) :], Outcome.LENGTH))
    assert whole.endswith(rest)


def test_logprobs_come_with_the_text_and_bytes_of_their_tokens() -> None:
    (token,) = TOKENIZER.encode("a")
    sampled = SampledToken(0, token, -0.5, [(token, -0.5), (0, -2.0)])
    one = choice()
    delta = one.accept(Sampled(one.sequence, sampled, Outcome.CONTINUES), TOKENIZER)
    assert delta.logprobs is not None
    (entry,) = delta.logprobs
    assert (entry.text, entry.raw, entry.token_id, entry.logprob) == ("a", b"a", token, -0.5)
    assert [(other.token_id, other.logprob) for other in entry.top] == [(token, -0.5), (0, -2.0)]


@pytest.fixture
def generation() -> Generation:
    """Two samples of one prompt."""
    return Generation("r", 0.0, len(PROMPT), {n: choice(n) for n in range(2)})


def step(generation: Generation, *outcomes: Outcome) -> list[object]:
    sampled = []
    for number, outcome in enumerate(outcomes):
        sequence = generation.choices[number].sequence
        sequence.tokens.append(40)
        sampled.append(Sampled(sequence, SampledToken(number, 40), outcome))
    return list(generation.accept(sampled, TOKENIZER))


def test_a_request_is_complete_when_all_its_choices_are(generation: Generation) -> None:
    generation.choices[0].sequence.cached = 2
    generation.choices[1].sequence.cached = 3
    (first,) = step(generation, Outcome.LENGTH, Outcome.CONTINUES)
    assert isinstance(first, Progress)
    assert [delta.index for delta in first.deltas] == [0, 1]
    assert not generation.done
    second = generation.choices[1].sequence
    second.tokens.append(41)
    ended = Sampled(second, SampledToken(1, 41), Outcome.LENGTH)
    events = generation.accept([ended], TOKENIZER)
    # Samples share their prompt: what the first one found in the cache counts once.
    assert events[-1] == Completed("r", 3, 1 + 2, 2)


def test_logits_that_are_not_finite_end_the_request(generation: Generation) -> None:
    (event,) = step(generation, Outcome.CONTINUES, Outcome.NOT_SAMPLED)
    assert isinstance(event, Aborted)
    assert isinstance(event.error, ExecutorFailed)


def test_what_a_step_sampled_beyond_a_stop_string_is_no_part_of_the_answer(
    generation: Generation,
) -> None:
    stopping, other = generation.choices[0], generation.choices[1]
    stopping.stops = StopMatcher(StopStrings(["b"]))
    ids = [TOKENIZER.encode(letter)[0] for letter in "abcd"]
    sampled = []
    for number, choice in enumerate((stopping, other)):
        for token in ids:
            choice.sequence.tokens.append(token)
            outcome = Outcome.LENGTH if token == ids[-1] else Outcome.CONTINUES
            sampled.append(Sampled(choice.sequence, SampledToken(number, token), outcome))
    progress, completed = generation.accept(sampled, TOKENIZER)
    assert isinstance(progress, Progress)
    texts = ["".join(d.text for d in progress.deltas if d.index == number) for number in (0, 1)]
    assert texts == ["a", "abcd"]
    assert [d.finish for d in progress.deltas if d.index == 0] == [None, Finish.STOP]
    assert completed == Completed("r", 3, 2 + 4, 0)
