"""Texts whose next tokens models are asked for: of several kinds, the same for ever."""

from __future__ import annotations

_HISTORY = """\
The first lighthouses were fires on hills. Somebody had to carry the wood up every evening, and
in a storm, when ships needed the light most, the rain put it out. Towers came later, with a
roof over the flame and glass around it, and a keeper who lived below. Keepers wrote down the
weather, the oil that they burned and the ships that passed, so we know a good deal about their
days. One of them, on an island in the north, complains for eleven years about the same leaking
door. Then electricity came, and with it a lamp that no longer needed anybody. The last keepers
were asked to stay for a while because nobody quite believed that a machine would notice when it
failed. By the end of the century almost all of the towers were empty. Some became small hotels;
in others there are now instruments that measure the height of the sea. The light itself is
still there, although most captains steer by satellites and look at it only out of habit, as one
looks at the clock of a church while wearing a watch."""

_CODE = '''\
def merge_intervals(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Joins intervals that touch or overlap; the result is sorted."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            last_start, last_end = merged[-1]
            merged[-1] = (last_start, max(last_end, end))
        else:
            merged.append((start, end))
    return merged


class Counter:
    """Counts how often each word was seen."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def add(self, word: str) -> None:
        self._counts[word] = self._counts.get(word, 0) + 1

    def most_common(self, number: int) -> list[tuple[str, int]]:
        ordered = sorted(self._counts.items(), key=lambda item: item[1], reverse=True)
        return ordered[:number]


def test_intervals_that_touch_are_joined() -> None:
    assert merge_intervals([(5, 7), (1, 3), (3, 4)]) == [(1, 4), (5, 7)]
    assert merge_intervals([]) == []
'''

_CONVERSATION = """\
Customer: Good morning. I bought a kettle from you last week, and since yesterday it does not
switch off when the water boils.
Assistant: I am sorry to hear that. Could you tell me whether the lid closes completely? Most
kettles of this kind only notice the steam when the lid is shut.
Customer: Yes, it closes. I have also tried it with less water, as the manual says, but that
changed nothing.
Assistant: Thank you for trying that. In this case the switch is probably broken, and you should
not use the kettle any more. Do you still have the receipt?
Customer: I have it as an e-mail. Is that enough?
Assistant: That is enough. I have written down your order, and you can choose between a new
kettle, which would arrive on Thursday, and your money back. Which of the two would you like?
Customer: A new one, please. Do I have to send the old one back?
Assistant: No, please take it to a place where electrical devices are recycled. Is there
anything else that I can do for you today?"""

_EXPLANATION = """\
Why is the sky blue? Light from the sun contains all colours. When it passes through the air it
meets molecules that are much smaller than its waves, and a part of it is scattered in every
direction. Short waves are scattered far more than long ones: if the length of a wave is halved,
sixteen times as much of it is scattered. Blue light has short waves and red light has long
ones, so what reaches our eyes from all over the sky is mostly blue. Violet has even shorter
waves, but there is less of it in sunlight, and our eyes are not as sensitive to it. In the
evening the light comes in at a low angle and has a long way through the air. Most of the blue
has been scattered away before it arrives, and what is left is red.

Questions about the text:
1. Which colour has longer waves, blue or red? Answer: red.
2. How much more is scattered when waves are half as long? Answer: sixteen times as much.
3. Why is the sky not violet? Answer: there is less violet in sunlight, and our eyes see it less
   well.
4. Why is the sun red in the evening? Answer: because most of the blue light has been scattered
   away."""

_RECIPE = """\
# Bread without kneading

Ingredients for one loaf:

- 430 grams of flour, white or half of it whole grain
- 350 millilitres of water
- 1 1/2 teaspoons of salt
- 1/4 teaspoon of dry yeast

Steps:

1. Mix flour, salt and yeast in a large bowl. Add the water and stir until there is no dry flour
   left. The dough will be sticky; that is how it should be.
2. Cover the bowl and leave it at room temperature for twelve to eighteen hours, until the
   surface is full of bubbles.
3. Put the dough on a floured table, fold it twice, cover it and let it rest for fifteen
   minutes.
4. Heat an iron pot with its lid in the oven at 230 degrees Celsius for half an hour. Be careful
   when you take it out, because it is very hot.
5. Put the dough into the pot, close it, and bake for thirty minutes. Then take off the lid and
   bake for another fifteen minutes, until the crust is dark brown. Let the bread cool before
   you cut it."""

_LETTER = """\
Liebe Anna,

vielen Dank für deinen Brief. Wir sind am Sonntag gut in Lissabon angekommen. Das Wetter ist
schön, aber am Abend wird es kühl, und ich habe natürlich keine Jacke mitgenommen. Gestern waren
wir den ganzen Tag in der Altstadt. Die Straßen sind so steil, dass man nach jeder Ecke eine
Pause machen möchte. Zum Glück gibt es überall kleine Cafés. Morgen fahren wir mit dem Zug ans
Meer. Die Kinder freuen sich schon seit einer Woche darauf und wollen unbedingt die großen
Wellen sehen. Ich hoffe, dass es deiner Mutter wieder besser geht und dass du bald Zeit hast,
uns zu besuchen. Im Juni wäre es am besten, denn dann haben wir beide Urlaub, und das
Gästezimmer ist endlich fertig.

Viele Grüße aus dem Süden
dein Martin"""

PASSAGES = (_HISTORY, _CODE, _CONVERSATION, _EXPLANATION, _RECIPE, _LETTER)
