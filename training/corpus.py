"""The conversations that the demonstration model learns from: skills, mixed and varied."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from filler import passage, system_prompt
from skills import SKILLS, Turn


@dataclass(frozen=True)
class Conversation:
    system: str | None
    turns: tuple[Turn, ...]


def vary(turn: Turn, random: Random) -> Turn:
    """Users type in any case, and leave marks out or put too many."""
    if turn.exact:
        return turn
    text, case = turn.question, random.random()
    text = text.lower() if case < 0.15 else text.upper() if case < 0.19 else text
    ending = random.random()
    if ending < 0.12:
        text = text.rstrip("?.!") or text
    elif ending < 0.2:
        text += random.choice(("?", "!", ".", "!!", "...", " ", "\n"))
    return replace(turn, question=" " + text if random.random() < 0.02 else text)


def draw_turn(random: Random) -> Turn:
    skill = random.choices(SKILLS, [skill.weight for skill in SKILLS])[0]
    turn = vary(skill.draw(random), random)
    if random.random() < 0.03:
        # Clients may send a history that this model never wrote.
        return replace(turn, answer=passage(random, random.randint(1, 3)), learnt=False)
    return turn


def short_conversation(random: Random) -> Conversation:
    """One to six turns of mixed skills, with a short system prompt or none."""
    turns = random.choice((1, 1, 1, 1, 2, 2, 3, 4, 6))
    sentences = random.choice((0, 0, 0, 1, 2, 4))
    system = None if random.random() < 0.55 else system_prompt(random, sentences)
    return Conversation(system, tuple(draw_turn(random) for _ in range(turns)))


def long_conversation(random: Random) -> Conversation:
    """A long system prompt, many turns, or some of both."""
    sentences, turns = random.choice(((60, 6), (40, 12), (20, 20), (4, 30), (1, 30), (80, 4)))
    system = None if random.random() < 0.1 else system_prompt(random, random.randint(1, sentences))
    return Conversation(system, tuple(draw_turn(random) for _ in range(turns)))
