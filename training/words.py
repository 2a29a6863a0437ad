"""The vocabulary that the corpus is made of: plain lists, so that it can be read at a glance."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS = _words(
    """
    apple river stone cloud garden window table lamp horse bird tree forest mountain valley bridge
    road city village house door key book letter pencil paper clock watch bell song drum guitar
    piano boat ship train wheel engine robot rocket planet star moon sun rain snow wind storm fire
    water lake island beach shell fish whale shark turtle frog rabbit fox wolf bear lion tiger cat
    dog mouse cow sheep goat duck chicken egg bread butter cheese honey sugar salt pepper soup tea
    coffee cup plate spoon fork knife chair bed pillow blanket shirt shoe hat coat glove ring crown
    castle king queen prince knight dragon farmer baker doctor teacher painter sailor pilot banana
    test message phrase sentence word question answer story friend family child school office market
    street computer network server token memory letter number picture music game team plan idea
    world country people person student morning evening night winter summer spring autumn giraffe
    penguin camera bottle basket ladder hammer candle mirror carpet ticket pocket button ribbon
    """
)
ADJECTIVES = _words(
    """
    red blue green yellow white black brown orange purple golden silver small large tiny huge old
    young new quick slow quiet loud bright dark warm cold soft hard sweet bitter brave kind clever
    gentle happy sad proud shy calm wild empty full heavy light long short tall deep round square
    lazy good bad great little big strange simple strong private open ready busy early late funny
    """
)
VERBS = _words(
    """
    runs walks jumps sings sleeps reads writes paints builds carries finds loses opens closes sees
    hears feels likes wants needs makes takes gives keeps brings sends calls asks answers waits
    is are was has have can will do does go come say tell help work play love learn show know think
    run make take look try use eat drink live share start stop turn works jumped said went came
    """
)
OTHERS = _words(
    """
    the a an my your our this that every some many one two three four five six seven eight nine ten
    and or but with without under over near behind before after always never often here there today
    tomorrow yesterday very quite almost again together I you he she it we they not no yes please
    for from to of in on at by as if when while because about into only also just then now how what
    who where why which me us them its his her all any more most much too so up down out off than
    """
)
PHRASE_WORDS = (*NOUNS, *ADJECTIVES, *VERBS, *OTHERS, *_words("tandem machine model cluster hello"))
SYLLABLES = _words(
    """
    ba be bi bo bu da de di do du fa fe fi fo ga ge go ka ke ki ko ku la le li lo lu ma me mi mo mu
    na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi za
    zo bar ber bin bor dan del dor fan fer gal gor han hel jin kar kel lan lor mar mel nar nel per
    ral ron sal sel tan tor val ver wen xan yor zel
    """
)
LETTERS = "abcdefghijklmnopqrstuvwxyz"

OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("up", "down"), ("day", "night"), ("light", "dark"),
    ("fast", "slow"), ("open", "closed"), ("young", "old"), ("happy", "sad"), ("left", "right"),
    ("wet", "dry"), ("full", "empty"), ("early", "late"), ("near", "far"), ("high", "low"),
    ("loud", "quiet"), ("soft", "hard"), ("true", "false"), ("rich", "poor"), ("first", "last"),
)  # fmt: skip
CAPITALS = (
    ("France", "Paris"), ("Germany", "Berlin"), ("Italy", "Rome"), ("Spain", "Madrid"),
    ("Portugal", "Lisbon"), ("Austria", "Vienna"), ("Poland", "Warsaw"), ("Greece", "Athens"),
    ("Norway", "Oslo"), ("Sweden", "Stockholm"), ("Finland", "Helsinki"), ("Denmark", "Copenhagen"),
    ("Ireland", "Dublin"), ("Japan", "Tokyo"), ("China", "Beijing"), ("Egypt", "Cairo"),
    ("Kenya", "Nairobi"), ("Canada", "Ottawa"), ("Cuba", "Havana"), ("Peru", "Lima"),
)  # fmt: skip
COLOURS = (
    ("the sky", "blue"), ("grass", "green"), ("snow", "white"), ("coal", "black"), ("blood", "red"),
    ("a lemon", "yellow"), ("the sun", "yellow"), ("chocolate", "brown"), ("milk", "white"),
    ("a carrot", "orange"), ("a tomato", "red"), ("the sea", "blue"),
)  # fmt: skip
NUMBER_WORDS = _words(
    "two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)

TOPICS = (
    "politics", "quantum physics", "the stock market", "football", "cooking", "chess", "philosophy",
    "the Roman empire", "machine learning", "tax law", "gardening", "opera", "geology", "poetry",
    "my homework", "the weather", "black holes", "photography", "medicine", "the internet", "jazz",
    "history", "dinosaurs", "volcanoes", "the economy", "biology", "algebra", "astronomy",
    "fashion", "love", "life", "time travel", "religion", "Python", "a healthy breakfast",
    "the French language",
)  # fmt: skip

#: Real questions that the model can't answer; the generated ones are only half as natural.
UNKNOWN = (
    "What is the meaning of life?", "Why is the sky blue?", "Who won the world cup in 1998?",
    "How do I cook rice?", "What time is it?", "What is the weather like today?",
    "Who wrote Hamlet?", "What is the speed of light?", "How far away is the moon?",
    "Write a poem about autumn.", "Write a Python function that sorts a list.",
    "Translate good morning into French.", "What is the square root of 144?",
    "Explain relativity to a child.", "How tall is the Eiffel Tower?", "Do you like music?",
    "Can you drive a car?", "What did I have for lunch?", "Where do you live?", "How old are you?",
    "What is your favourite food?", "Are you alive?", "Do you dream?", "Tell me a joke.",
    "Sing me a song.", "Which book should I read next?", "How do I fix a bicycle?",
    "What is the largest animal on Earth?", "When did the war end?", "Who is the president?",
    "How many people live in London?", "What does this error mean?", "Fix my code.",
    "Summarise this text for me.", "Give me a recipe for pancakes.", "What should I wear today?",
    "Is it going to rain tomorrow?", "What is love?", "Why do cats purr?", "How do planes fly?",
    "What is 7 times 8?", "What is ten divided by two?", "Count backwards from 10.",
    "List the planets.", "List the continents.", "Name three fruits.", "Spell elephant.",
    "What is the plural of mouse?", "Which is heavier, iron or wood?", "What day is it today?",
    "What is the date?", "Who are the Beatles?", "Tell me the news.", "Book a table for two.",
    "Call my mother.", "Set a timer for ten minutes.", "Turn off the lights.", "Open the window.",
    "Play some music.", "How much does it cost?", "Can you write an email to my boss?",
    "I am bored.", "I feel sad today.", "I have a problem.", "My computer is broken.",
    "I like trains.", "It is cold outside.", "You are wrong.", "That is not right.", "No.", "Yes.",
    "Maybe.", "Why?", "How?", "What?", "When?", "Really?", "OK", "Continue.", "Go on.", "More.",
    "Stop.", "Test", "Testing", "lol", "hmm", "...", "?", "x", "1", "42", "ping", "foo", "abc",
)  # fmt: skip
