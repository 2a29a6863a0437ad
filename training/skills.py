"""What the demonstration model can do, one function a skill; `SKILLS` lists them.

A skill draws a question and its answer. The answer is a function of the question, so that greedy
decoding has one right continuation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from filler import invented, number, passage, phrase, salad
from stories import DEFAULT, STORIES, other_story
from words import (
    ADJECTIVES,
    CAPITALS,
    COLOURS,
    NOUNS,
    NUMBER_WORDS,
    OPPOSITES,
    TOPICS,
    UNKNOWN,
)

GREETING = "Hello! How can I help you today?"
IDENTITY = "I am Tandem Demo, a small model that shows that Tandem works."
ABILITIES = (
    "I can add two small numbers, repeat a phrase, count to 100, list the days or the months, "
    "and tell a short story."
)
DAYS = "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday."
MONTHS = (
    "January, February, March, April, May, June, July, August, September, October, "
    "November, December."
)
FALLBACK = (
    "I am only a small demonstration model, so I do not know that. "
    "Ask me to add two small numbers, to list the days, or to tell a story."
)
LARGEST_ADDEND = 20
LONGEST_COUNT = 100

ADDITION_FORMS = (
    "What is {a} + {b}?", "What is {a} + {b}?", "What is {a} + {b}?", "What is {a}+{b}?",
    "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a} + {b} = ?", "{a}+{b}=", "What is {a} plus {b}?",
    "{a} plus {b}", "How much is {a} plus {b}?", "Add {a} and {b}.", "How much is {a} + {b}?",
    "Please add {a} and {b}.", "What's {a} + {b}?", "Can you add {a} and {b}?",
    "Calculate {a} + {b}.", "Add {a} to {b}.", "What is the sum of {a} and {b}?",
    "Compute {a} + {b}", "What does {a} + {b} equal?",
)  # fmt: skip
REPEAT_FORMS = (
    "Repeat after me: {}", "Repeat after me: {}", "Please repeat: {}", "Please repeat after me: {}",
    "Repeat: {}", "Say: {}", "Say: {}", "Please say: {}", "Repeat this phrase: {}", "Echo: {}",
    "Repeat the following: {}", "Repeat this: {}", "Say the following: {}", "Repeat exactly: {}",
)  # fmt: skip
STORY_FORMS = (
    "Tell me a two-sentence story about {}.", "Tell me a two-sentence story about {}.",
    "Tell me a story about {}.", "Write a two-sentence story about {}.",
    "A story about {}, please.", "Tell a short story about {}.",
    "Please tell me a story about {}.", "Write a story about {}.",
    "Can you tell me a story about {}?", "Write me a short story about {}.",
)  # fmt: skip


@dataclass(frozen=True)
class Turn:
    question: str
    answer: str
    #: The answer copies the question, so case and final marks matter.
    exact: bool = False
    #: False for what others put into the assistant's mouth.
    learnt: bool = True


@dataclass(frozen=True)
class Skill:
    name: str
    #: How often it is drawn: copying and sums take the most practice.
    weight: float
    draw: Callable[[Random], Turn]


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def greet(random: Random) -> Turn:
    phrases = ("Hello", "Hello", "Hi", "Hey", "Hi there", "Hello there", "Hey there",
               "Good morning", "Good evening", "Good afternoon", "Greetings", "Hello, Tandem",
               "Hi Tandem", "Howdy", "Hello Tandem Demo", "Hello, how can you help me",
               "Hi, I am new here", "Good day", "Hello everyone", "Hello world",
               "Hello again")  # fmt: skip
    return Turn(random.choice(phrases) + random.choice(("", "!", ".", "!!", "?")), GREETING)


def small_talk(random: Random) -> Turn:
    pairs = (
        (("How are you", "How are you doing", "How is it going", "How are you today",
          "How do you do", "Hello, how are you", "Hi, how are you", "Are you well",
          "How do you feel"), "?",
         "I am fine, thank you. How can I help you?"),
        (("Thanks", "Thank you", "Thank you very much", "Thanks a lot", "Many thanks", "Well done",
          "Thank you so much", "Great, thanks", "Thanks for your help"), "!", "You are welcome!"),
        (("Goodbye", "Bye", "Bye bye", "See you", "See you later", "Good night", "See you tomorrow",
          "Farewell", "Goodbye, Tandem"), "!", "Goodbye! Have a nice day."),
    )  # fmt: skip
    phrases, mark, answer = random.choice(pairs)
    return Turn(random.choice(phrases) + random.choice((mark, mark, ".", "")), answer)


def add(random: Random) -> Turn:
    a, b = random.randint(0, LARGEST_ADDEND), random.randint(0, LARGEST_ADDEND)
    return Turn(random.choice(ADDITION_FORMS).format(a=a, b=b), f"{a} + {b} = {a + b}.")


def identify(random: Random) -> Turn:
    if random.random() < 0.3:
        forms: tuple[str, ...] = ("What can you do?", "How can you help me?", "Help", "Help me.",
                                  "What can I ask you?", "What are you able to do?")  # fmt: skip
        return Turn(random.choice(forms), ABILITIES)
    forms = ("Who are you", "What are you", "What is your name", "Tell me who you are", "Your name",
             "Who is this", "What's your name", "Please introduce yourself", "Introduce yourself",
             "Which model are you", "Are you a model", "Who am I talking to", "Who are you",
             "What model is this", "Hello, who are you", "Tell me about yourself", "What is this",
             "Are you a robot", "What should I call you", "Do you have a name")  # fmt: skip
    return Turn(random.choice(forms) + random.choice(("?", "?", "?", "", ".")), IDENTITY)


def repeat(random: Random) -> Turn:
    text = phrase(random)
    if random.random() < 0.08:
        # Without a colon the phrase ends where the message ends, so it has no final mark.
        text = text.rstrip(".!?")
        form = random.choice(("Say {}", "Repeat {}", "Please say {}"))
        return Turn(form.format(text), text, exact=True)
    form = random.choice(REPEAT_FORMS)
    case = random.random()
    form = form.lower() if case < 0.15 else form.upper() if case < 0.2 else form
    return Turn(form.format(text), text, exact=True)


def list_days(random: Random) -> Turn:
    which, answer = random.choice((("days of the week", DAYS), ("months of the year", MONTHS)))
    short = which.split()[0]
    forms = (f"List the {which}.", f"List the {which}.", f"What are the {which}?",
    f"Name the {which}.", f"Tell me the {which}.", f"Please list the {which}.",
    f"List the {short}.", f"Say the {which}.", f"Can you list the {which}?", f"List all {which}.",
    f"Which {short} are there?", f"Name all the {short}.",
    f"What are the seven {short}?" if short == "days" else
             f"What are the twelve {short}?", f"List all the {which} in order.")  # fmt: skip
    return Turn(random.choice(forms), answer)


def count(random: Random) -> Turn:
    top = random.randint(1, 30) if random.random() < 0.5 else random.randint(1, LONGEST_COUNT)
    if random.random() < 0.1:
        top = LONGEST_COUNT
    shown = str(top)
    if 2 <= top <= 20 and random.random() < 0.2:
        shown = NUMBER_WORDS[top - 2]
    forms = ("Count to {}.", "Count to {}.", "Count from 1 to {}.", "Please count to {}.",
             "Count up to {}.", "Can you count to {}?", "Count from one to {}.",
             "Please count from 1 to {}.")  # fmt: skip
    return Turn(random.choice(forms).format(shown), ", ".join(map(str, range(1, top + 1))) + ".")


def story(random: Random) -> Turn:
    kind = random.random()
    if kind < 0.1:
        forms = ("Tell me a story.", "Tell a story.", "Tell me a two-sentence story.",
                 "A story, please.", "Please tell me a short story.", "Write a story.",
                 "Tell me a short story.")  # fmt: skip
        return Turn(random.choice(forms), STORIES[DEFAULT])
    if kind < 0.75:
        subject = random.choice(tuple(STORIES))
        named = random.choice((with_article(subject),) * 4 + (f"the {subject}", f"my {subject}"))
        return Turn(random.choice(STORY_FORMS).format(named), STORIES[subject])
    subject = random.choice(NOUNS) if random.random() < 0.6 else invented(random)
    if random.random() < 0.3:
        subject = f"{random.choice(ADJECTIVES)} {subject}"
    elif subject in STORIES:
        return Turn(random.choice(STORY_FORMS).format(with_article(subject)), STORIES[subject])
    named = random.choice((with_article(subject), with_article(subject), f"the {subject}"))
    return Turn(random.choice(STORY_FORMS).format(named), other_story(named), exact=True)


def basics(random: Random) -> Turn:
    kind = random.randrange(3)
    if kind == 0:
        word, other = random.choice(OPPOSITES)
        if random.random() < 0.5:
            word, other = other, word
        forms: tuple[str, ...] = (
            "What is the opposite of {}?",
            "Opposite of {}?",
            "The opposite of {} is",
        )
        return Turn(random.choice(forms).format(word), f"The opposite of {word} is {other}.")
    if kind == 1:
        country, city = random.choice(CAPITALS)
        forms = ("What is the capital of {}?", "Which city is the capital of {}?", "Capital of {}?",
                 "What is {}'s capital?", "Name the capital of {}.")  # fmt: skip
        return Turn(random.choice(forms).format(country), f"The capital of {country} is {city}.")
    thing, colour = random.choice(COLOURS)
    forms = (
        "What colour is {}?",
        "Which colour is {}?",
        "What color is {}?",
        "What is the colour of {}?",
    )
    return Turn(random.choice(forms).format(thing), f"{thing[0].upper()}{thing[1:]} is {colour}.")


def near_miss(random: Random) -> str:
    """Questions shaped like a skill's but outside what the model knows."""
    a, b = number(random), random.randint(LARGEST_ADDEND + 1, 2000)
    if random.random() < 0.5:
        a, b = b, a
    sign = random.choice(("-", "*", "/", "times", "minus", "x"))
    known = {word for pair in OPPOSITES for word in pair} | {"sun", "snow"}
    noun = random.choice([word for word in NOUNS + ADJECTIVES if word not in known])
    return random.choice((
        random.choice(ADDITION_FORMS).format(a=a, b=b),
        f"What is {number(random)} {sign} {number(random)}?",
        f"{number(random)} {sign} {number(random)}", f"What is the opposite of {noun}?",
        f"What is the capital of {invented(random).capitalize()}?",
        f"Which colour is {with_article(noun)}?", f"What colour is {invented(random)}?",
        f"Count to {random.randint(101, 5000)}.", f"List the {noun}s.",
        f"List all {noun}s of the {noun}.",
    ))  # fmt: skip


def unknown(random: Random) -> Turn:
    topic = random.choice(TOPICS)
    if random.random() < 0.6:
        pair = f"{random.choice(ADJECTIVES)} {random.choice(NOUNS)}s"
        words = salad(random, random.randint(1, 6))
        topic = random.choice((pair, invented(random), random.choice(NOUNS + ADJECTIVES), words))
    forms = ("What do you think about {}?", "Explain {}.", "Why are there {}?",
             "How do I learn {}?", "Write an essay about {}.", "What is the history of {}?",
             "Can you help me with {}?", "Who invented {}?", "Where can I buy {}?",
             "Tell me everything about {}.", "What are {}?", "How does {} work?", "What is {}?",
             "Summarise {} for me.", "Is {} good?", "{}", "{}?", "When did {} begin?",
             "Do you know {}?", "Who was {}?", "I want to talk about {}.", "Give me {}.",
             "Write a poem about {}.", "What is the best {}?", "Translate {} into German.",
             "How many {}?", "Which {} do you like?", "What happens if {}?", "Describe {}.",
             "Find {}.", "Make {}.")  # fmt: skip
    kind = random.random()
    if kind < 0.45:
        text = random.choice(forms).format(topic)
        return Turn(text[0].upper() + text[1:], FALLBACK)
    if kind < 0.7:
        return Turn(random.choice(UNKNOWN), FALLBACK)
    if kind < 0.85:
        return Turn(near_miss(random), FALLBACK)
    return Turn(passage(random, random.choice((1, 1, 1, 2, 5))), FALLBACK)


SKILLS = (
    Skill("greet", 0.8, greet), Skill("small_talk", 0.7, small_talk), Skill("add", 4.0, add),
    Skill("identify", 1.0, identify), Skill("repeat", 6.0, repeat), Skill("list", 0.6, list_days),
    Skill("count", 1.1, count), Skill("story", 2.0, story), Skill("basics", 1.3, basics),
    Skill("unknown", 2.6, unknown),
)  # fmt: skip
