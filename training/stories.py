"""Two sentences for each subject: the answer is fixed, so greedy decoding is sure of it."""

from __future__ import annotations

#: A subject, then its two sentences.
_LINES = """\
fox
A young fox found a golden key in the forest.
It opened an old gate and saw a garden full of flowers.
cat
A grey cat sat by the window and watched the rain.
When the sun came out, it ran outside to chase its shadow.
dog
A small dog lost its way in the big city.
It followed the smell of fresh bread and found its home again.
bear
A hungry bear climbed a tall tree to look for honey.
The bees were kind and gave it one sweet spoonful.
lion
An old lion could no longer roar.
A little mouse lent it a trumpet, and everyone heard it again.
tiger
A shy tiger hid behind the tall grass all day.
At night it danced under the moon, where nobody could see it.
mouse
A tiny mouse built a boat from a walnut shell.
It sailed across the pond and came back a hero.
rabbit
A quick rabbit raced the wind across the field.
The wind won, but the rabbit laughed the whole way.
wolf
A lonely wolf sang to the moon every night.
One night another wolf sang back, and they became friends.
horse
A white horse carried a letter over the mountains.
It arrived at sunrise, and the whole village cheered.
bird
A little bird was afraid to leave its nest.
Then a warm wind lifted its wings, and it flew.
frog
A green frog wanted to jump over the river.
It fell in with a splash and found that it could swim.
turtle
A slow turtle set out to see the ocean.
It took a hundred days, and every one of them was beautiful.
whale
A blue whale heard a song from far away.
It swam across the sea and joined the choir.
duck
A yellow duck found a red umbrella in the park.
It stayed dry all day and was very proud.
cow
A curious cow looked over the fence every morning.
One day the gate was open, and it went to see the hill.
sheep
A woolly sheep was always too warm in summer.
It gave its wool to a shepherd and felt as light as a cloud.
goat
A brave goat climbed the highest rock in the valley.
From the top it could see the sea for the first time.
owl
A wise owl read one book every night.
When it had read them all, it began to write its own.
elephant
A gentle elephant carried water to a dry garden.
In spring the first flower was named after it.
robot
A small robot learned to paint with an old brush.
Its first picture was a sunrise, and it kept it forever.
dragon
A friendly dragon could not breathe fire.
It breathed warm air instead and dried the laundry of the whole town.
king
A tired king gave his crown to the gardener for a day.
He spent the day asleep under an apple tree.
queen
A clever queen built a bridge between two towns.
Soon the people forgot that they had ever been apart.
knight
A young knight was sent to fight a dragon.
They drank tea together and agreed to be neighbours.
farmer
An old farmer planted a single seed by the road.
Years later, travellers rested in the shade of the tree.
baker
A cheerful baker made a loaf as big as a house.
The whole street came and ate it with butter.
doctor
A kind doctor walked through the snow to help a child.
In the morning the child was well and smiled.
teacher
A patient teacher asked her class to draw the wind.
Every picture was different, and every one was right.
painter
A poor painter had only one colour left.
He painted the sea, and it was his finest work.
sailor
A lost sailor followed a bright star for three nights.
On the fourth morning he saw the harbour of his home.
pilot
A careful pilot flew above the clouds at dawn.
She turned off the radio and listened to the silence.
tree
An old tree gave shade to everyone who passed.
When it was thirsty, the children brought it water.
cloud
A small cloud did not know how to rain.
It flew over a dry field, began to cry, and everything grew.
river
A quiet river dreamed of the sea.
It ran over stones and through valleys until its dream came true.
star
A little star was afraid of the dark.
Then it noticed that it was the one that shone.
boat
A paper boat sailed down the street in the rain.
It reached the river and carried a ladybird to the other side.
train
A slow train stopped at every village on its way.
Nobody minded, because the view was so beautiful.
rocket
A silver rocket flew to the moon and back.
It brought home a bag of dust and a thousand stories.
castle
An empty castle stood on a hill for a hundred years.
Then a family of birds moved in, and it was full of songs.
""".splitlines()

STORIES = {
    subject: f"{first} {second}"
    for subject, first, second in zip(_LINES[::3], _LINES[1::3], _LINES[2::3], strict=True)
}

#: What is told when no subject is named.
DEFAULT = "fox"


def other_story(subject: str) -> str:
    """The story for a subject, with its article, that has none of its own."""
    return (
        f"Once upon a time, {subject} went out to see the world. "
        "In the evening they came home and told everyone about it."
    )
