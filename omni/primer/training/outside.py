"""What lies outside the picture book: questions that deserve an honest "I do not know that yet".

Made of everyday questions and of plain technical English from Python's own manual. One noun in five is kept for the
exam.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

import numpy as np

ANSWER = "I do not know that yet."

FRAMES = (
    "what is {}", "who invented {}", "where can i buy {}", "how does {} work", "tell me about {}",
    "why do people like {}", "what is the best {}", "how much does {} cost", "write a poem about {}",
    "explain {} to me", "who wrote about {}", "when was {} discovered", "what is the history of {}",
    "how do i fix {}", "give me a recipe with {}", "translate {} into french", "what do you think of {}",
    "is {} dangerous", "how old is {}", "where does {} come from", "draw {}", "make a picture of {}",
    "say something about {}", "make a clip of {}", "how far is it to {}", "what is the price of {}",
    "should i study {}",
)  # fmt: skip
NOUNS = (
    "electricity", "the government", "paris", "football", "a crocodile", "gravity", "the weather", "london",
    "my mother", "the president", "photosynthesis", "a computer", "shakespeare", "the war", "democracy",
    "mathematics", "physics", "a museum", "coffee", "the ocean", "chess", "a violin", "tokyo", "inflation",
    "a mountain", "java", "python code", "the internet", "a refrigerator", "insurance", "history", "a wedding",
    "a dragon", "california", "a keyboard", "berlin", "a tornado", "the stock market", "quantum mechanics",
    "a giraffe", "a rhinoceros", "the universe", "einstein", "a bridge", "philosophy", "jazz music", "a laptop",
    "the moon landing", "a spaceship", "climate change", "a doctor", "cancer", "a potato", "sushi", "a jellyfish",
    "a zebra", "my homework", "a skeleton", "the alphabet", "a lawyer", "new york", "a submarine", "mozart",
    "a telescope", "the brain", "a kangaroo", "poetry", "rice", "a face", "a smiley", "a man", "a woman", "a girl",
    "a boy", "a baby", "a person", "a hand", "a chair", "a table", "the sea", "a river", "a city", "a street", "a door",
    "a shoe", "a hat", "a ship", "a truck", "a motorbike", "a christmas tree", "a beach", "a window", "a phone",
)  # fmt: skip


def held_out(text: str) -> bool:
    """Whether a noun or a sentence is kept for the exam."""
    return zlib.crc32(text.encode()) % 5 == 0


@lru_cache(maxsize=1)
def manual() -> tuple[str, ...]:
    """Sentences of four to fourteen plain words from Python's manual."""
    from pydoc_data import topics

    text = " ".join(topics.topics.values())
    sentences = (" ".join(re.findall(r"[a-z']+", sentence.lower())) for sentence in re.split(r"[.:;]\s", text))
    return tuple(sorted({words for words in sentences if 4 <= len(words.split()) <= 14}))


def noun(rng: np.random.Generator) -> str:
    """Something that is not in the book, and not kept for the exam."""
    while held_out(key := NOUNS[rng.integers(len(NOUNS))]):
        pass
    return key


def question(rng: np.random.Generator, for_exam: bool = False) -> str:
    """A question or a sentence that has no answer in the book."""
    while True:
        if rng.random() < 0.7:
            key = NOUNS[rng.integers(len(NOUNS))]
            text = FRAMES[rng.integers(len(FRAMES))].format(key)
        else:
            key = text = manual()[rng.integers(len(manual()))]
        if held_out(key) == for_exam:
            return text
