"""Text without a task: phrases to copy, long system prompts, questions that nobody can answer.

Its purpose is variety. A model of this size is thrown off by any text unlike what it has seen, so
the filler mixes plain sentences, lists, word salad, invented words, letters and numbers.
"""

from __future__ import annotations

from random import Random

from words import ADJECTIVES, LETTERS, NOUNS, OTHERS, PHRASE_WORDS, SYLLABLES, TOPICS, VERBS

_SYSTEM_OPENINGS = (
    "You are a helpful assistant.", "You are Tandem Demo.", "Be brief.", "Answer politely.",
    "You are a friendly assistant.", "Answer in English.", "You are a {adjective} {noun}.",
    "You are an expert on {topic}.", "Be concise and accurate.", "Think before you answer.",
    "You are a helpful, honest and harmless assistant.", "Always answer in one sentence.",
    "You speak like a {noun} and never break character.", "Follow the rules below.",
    "The user is called {noun}. The user likes {topic}.", "Today is a {adjective} day.",
    "You are an AI model that helps people with {topic}.", "Reply in JSON.", "No markdown please.",
    "You are talking to a {adjective} {noun}. Be {adjective} with them.", "You can use tools.",
)  # fmt: skip
_SENTENCES = (
    "The {adjective} {noun} {verb} {other} the {noun}.", "Never mention the {adjective} {noun}.",
    "If the user asks about {topic}, speak about the {noun}.", "Always be {adjective}.",
    "Remember that {topic} and {topic} are {adjective}.", "Do not {verb} the {noun}.",
    "Use at most {number} words.", "Section {number}: {topic}.",
    "Every {noun} {verb} {other} {noun}.",
    "When it is {adjective}, the {noun} {verb}, {other} nobody {verb} a {adjective} {noun}.",
    "{invented} is the name of the {noun}.", "The {noun} was {adjective}; the {noun} {verb} it.",
    "Here is some text about {topic}: {invented} {noun} {verb} {adjective}.", "Rule {number}.",
    "I {verb} {number} {adjective} {noun}s and {number} {noun}s.", "Our {noun} is {adjective}!",
    "Do you {verb} {topic}?", "Who {verb} the {noun}?", "Answer \"{noun}\" or '{noun}'.",
    "- {noun}: {adjective}\n- {noun}: {number}\n", "{noun}, {noun}, {noun}, {noun} and {noun}.",
)  # fmt: skip
_SLOTS = {
    "noun": NOUNS,
    "adjective": ADJECTIVES,
    "verb": VERBS,
    "other": OTHERS,
    "topic": TOPICS,
}


def invented(random: Random) -> str:
    """A word that is in no list: syllables, or now and then any letters."""
    if random.random() < 0.25:
        return "".join(random.choices(LETTERS, k=random.randint(2, 7)))
    return "".join(random.choices(SYLLABLES, k=random.randint(2, 4)))


def number(random: Random) -> int:
    return random.randint(0, 20) if random.random() < 0.5 else random.randint(0, 2000)


def fill(pattern: str, random: Random) -> str:
    """Replaces each {slot} by its own draw."""
    while (start := pattern.find("{")) >= 0:
        end = pattern.index("}", start)
        pattern = pattern[:start] + _draw(pattern[start + 1 : end], random) + pattern[end + 1 :]
    return pattern


def _draw(slot: str, random: Random) -> str:
    if slot == "invented":
        return invented(random)
    if slot == "number":
        return str(number(random))
    return random.choice(_SLOTS[slot])


def sentence(random: Random) -> str:
    return fill(random.choice(_SENTENCES), random)


def salad(random: Random, length: int) -> str:
    """Words in no order; sometimes the same few again and again."""
    pool: tuple[str, ...] | list[str] = PHRASE_WORDS
    if random.random() < 0.3:
        pool = random.sample(PHRASE_WORDS, random.randint(1, 5))
    words = [
        invented(random) if random.random() < 0.05 else random.choice(pool) for _ in range(length)
    ]
    return " ".join(words)


def passage(random: Random, sentences: int) -> str:
    parts = [
        salad(random, random.randint(3, 20)) + random.choice((".", "", "\n"))
        if random.random() < 0.15
        else sentence(random)
        for _ in range(sentences)
    ]
    if sentences > 3 and random.random() < 0.15:
        # People test long prompts by repeating one sentence.
        parts = parts[: random.randint(1, 3)] * (sentences // 2)
    return random.choice((" ", " ", "\n", "\n\n")).join(parts)


def system_prompt(random: Random, sentences: int) -> str:
    parts = []
    if random.random() < 0.8:
        parts.append(fill(random.choice(_SYSTEM_OPENINGS), random))
    if sentences or not parts:
        parts.append(passage(random, max(1, sentences)))
    return random.choice((" ", " ", "\n")).join(parts)


def phrase(random: Random) -> str:
    """One to eight words to copy; some invented, so that copying and not recall is learnt."""
    odd = 0.08 if random.random() < 0.85 else 0.5
    words = []
    for _ in range(random.randint(1, 8)):
        kind = random.random()
        if kind < odd:
            words.append(invented(random))
        elif kind < odd + 0.04:
            words.append(str(number(random)))
        else:
            words.append(random.choice(PHRASE_WORDS))
    if random.random() < 0.15:
        words = [word.capitalize() for word in words]
    elif random.random() < 0.3:
        words[0] = words[0].capitalize()
    if len(words) > 2 and random.random() < 0.1:
        words[random.randrange(len(words) - 1)] += ","
    return " ".join(words) + random.choice(("",) * 8 + (".", "!", "?"))
