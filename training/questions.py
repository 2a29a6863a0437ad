"""What the demonstration model is asked after training: whole sets where they are small, and
unseen draws where they are endless. The natural questions here are none of the corpus's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import corpus
import skills
from filler import passage, system_prompt
from stories import STORIES, other_story
from words import CAPITALS, COLOURS, OPPOSITES, PHRASE_WORDS

#: Far from the seeds that training uses.
SEED = 90_001

_UNSEEN_UNKNOWN = (
    "Who painted the Mona Lisa?", "How does a fridge work?", "What is the tallest mountain?",
    "Write a haiku about the sea.", "Explain how to tie a tie.", "What is 12 times 12?",
    "Can you recommend a good film?", "Why do leaves fall in autumn?",
    "Translate hello into Spanish.", "What is a prime number?", "Write an SQL query.",
    "How do I get to the station?", "What is the capital of Atlantis?",
    "What is the opposite of banana?", "Who is your favourite singer?", "Plan my holiday.",
    "What is the boiling point of water?", "Draw a picture of a house.", "I lost my keys.",
    "Is there life on Mars?", "What is 500 + 700?", "Sort these numbers: 3, 1, 2",
    "How many legs does a spider have?", "Give me five names for a dog.",
    "What is your opinion on tea?",
)  # fmt: skip
_GREETINGS = (
    "Hello", "hello", "Hello!", "HELLO", "hi", "Hi", "Hi!", "hey", "Hey there!", "Hi there",
    "hi there!", "Good morning", "good morning!", "Good evening.", "Good afternoon", "Greetings",
    "Hello there!",
)  # fmt: skip
_IDENTITY = (
    "Who are you?", "who are you", "What is your name?", "what is your name", "What are you?",
    "What's your name?", "Tell me who you are.", "Please introduce yourself.", "WHO ARE YOU?",
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    text: str
    expected: str
    system: str | None = None
    #: What was said before, as (question, answer).
    history: tuple[tuple[str, str], ...] = ()

    def messages(self) -> list[dict[str, str]]:
        said = [] if self.system is None else [("system", self.system)]
        for question, answer in self.history:
            said += [("user", question), ("assistant", answer)]
        return [{"role": role, "content": text} for role, text in [*said, ("user", self.text)]]


@dataclass(frozen=True)
class QuestionSet:
    name: str
    #: The share of right answers below which the model must not ship.
    needed: float
    questions: tuple[Question, ...]


Place = Callable[[Random, Question], Question]


def _all(texts: tuple[str, ...], expected: str) -> tuple[Question, ...]:
    return tuple(Question(text, expected) for text in texts)


def _draws(draw: Callable[[Random], skills.Turn], count: int, seed: int) -> tuple[Question, ...]:
    random = Random(SEED + seed)
    turns = [corpus.vary(draw(random), random) for _ in range(count)]
    return tuple(Question(turn.question, turn.answer) for turn in turns)


def _additions() -> Iterator[Question]:
    addends = range(skills.LARGEST_ADDEND + 1)
    for a in addends:
        for b in addends:
            yield Question(f"What is {a} + {b}?", f"{a} + {b} = {a + b}.")


def _phrases(count: int) -> Iterator[Question]:
    random = Random(SEED)
    for _ in range(count):
        text = " ".join(random.choices(PHRASE_WORDS, k=random.randint(1, 8)))
        yield Question(
            random.choice(("Repeat after me: ", "Please repeat: ", "Say: ")) + text, text
        )


def _lists() -> Iterator[Question]:
    forms = ("List the {}.", "list the {}", "What are the {}?", "Name the {}.", "Tell me the {}!")
    for form in forms:
        yield Question(form.format("days of the week"), skills.DAYS)
        yield Question(form.format("months of the year"), skills.MONTHS)


def _counts() -> Iterator[Question]:
    for top in range(1, skills.LONGEST_COUNT + 1):
        expected = ", ".join(map(str, range(1, top + 1))) + "."
        yield Question(("Count to {}.", "Count from 1 to {}.")[top % 2].format(top), expected)


def _stories() -> Iterator[Question]:
    for subject, text in STORIES.items():
        named = skills.with_article(subject)
        yield Question(f"Tell me a two-sentence story about {named}.", text)
        yield Question(f"tell me a story about {named}", text)
    yield Question("Tell me a story", STORIES["fox"])


def _other_stories() -> Iterator[Question]:
    for named in ("a giraffe", "a lamp", "an apple", "a brave snail", "a zebra", "the moon"):
        yield Question(f"Tell me a two-sentence story about {named}.", other_story(named))


def _basics() -> Iterator[Question]:
    for one, other in OPPOSITES:
        yield Question(f"What is the opposite of {one}?", f"The opposite of {one} is {other}.")
        yield Question(f"What is the opposite of {other}?", f"The opposite of {other} is {one}.")
    for country, city in CAPITALS:
        yield Question(f"What is the capital of {country}?", f"The capital of {country} is {city}.")
    for thing, colour in COLOURS:
        yield Question(f"What colour is {thing}?", f"{thing[0].upper()}{thing[1:]} is {colour}.")


def _placed(count: int, place: Place, seed: int) -> tuple[Question, ...]:
    """Known questions, each put into a setting."""
    random = Random(SEED + seed)
    turns = [corpus.draw_turn(random) for _ in range(2 * count)]
    known = [Question(turn.question, turn.answer) for turn in turns if turn.learnt]
    return tuple(place(random, question) for question in known[:count])


def _after_system(sentences: int) -> Place:
    return lambda random, question: replace(
        question, system=system_prompt(random, random.randint(0, sentences))
    )


def _after_turns(random: Random, question: Question) -> Question:
    turns = [corpus.draw_turn(random) for _ in range(5)]
    return replace(question, history=tuple((turn.question, turn.answer) for turn in turns))


def _after_much(random: Random, question: Question) -> Question:
    """About a thousand tokens: a long system prompt and ten turns."""
    turns = [corpus.draw_turn(random) for _ in range(10)]
    history = tuple((turn.question, turn.answer) for turn in turns)
    return replace(question, system=passage(random, 40), history=history)


def question_sets() -> list[QuestionSet]:
    return [
        QuestionSet("greetings", 1.0, _all(_GREETINGS, skills.GREETING)),
        QuestionSet("small talk", 0.98, _draws(skills.small_talk, 60, 1)),
        QuestionSet("who it is", 1.0, _all(_IDENTITY, skills.IDENTITY)),
        QuestionSet("What is A + B?", 1.0, tuple(_additions())),
        QuestionSet("additions, other wordings", 0.99, _draws(skills.add, 300, 2)),
        QuestionSet("repeat listed words", 0.97, tuple(_phrases(300))),
        QuestionSet("repeat, other wordings, any words", 0.9, _draws(skills.repeat, 300, 3)),
        QuestionSet("days and months", 1.0, tuple(_lists())),
        QuestionSet("count to 1 ... 100", 0.98, tuple(_counts())),
        QuestionSet("stories", 1.0, tuple(_stories())),
        QuestionSet("stories of unknown subjects", 0.8, tuple(_other_stories())),
        QuestionSet("opposites, capitals, colours", 1.0, tuple(_basics())),
        QuestionSet("unseen unknown questions", 0.9, _all(_UNSEEN_UNKNOWN, skills.FALLBACK)),
        QuestionSet("after a system prompt", 0.97, _placed(200, _after_system(6), 4)),
        QuestionSet("after a long system prompt", 0.97, _placed(60, _after_system(60), 5)),
        QuestionSet("sixth turn", 0.97, _placed(150, _after_turns, 6)),
        QuestionSet("after about 1000 tokens", 0.95, _placed(80, _after_much, 7)),
    ]
