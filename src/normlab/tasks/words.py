"""Sentences as numbers of whole words, for tasks that write no text."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from normlab.errors import UserError

PAD, UNKNOWN = 0, 1
TOKEN = re.compile(r"\w+|[^\w\s]")


def split(sentence: str) -> list[str]:
    """Returns the words and punctuation marks of `sentence`, in lower case."""
    return TOKEN.findall(sentence.lower())


class Vocabulary:
    """Numbers for the most frequent words; 0 is padding, 1 any other word."""

    def __init__(self, words: Sequence[str]):
        self.words = list(words)
        self.ids = {word: i + 2 for i, word in enumerate(self.words)}

    @classmethod
    def of(cls, sentences: Iterable[Sequence[str]], size: int) -> "Vocabulary":
        """Returns `size` numbers at most, for the words of `sentences` that come most often."""
        if size < 3:
            raise UserError(f"vocab_size={size} leaves no room for a word: set it to 3 or more.")
        counts = Counter(word for sentence in sentences for word in sentence)
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(ranked[: size - 2])

    def __len__(self) -> int:
        return len(self.words) + 2

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """Returns the numbers (words,) of `words`; of none, one unknown word."""
        return np.array([self.ids.get(word, UNKNOWN) for word in words] or [UNKNOWN], np.int64)


def padded(sentences: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the sentences as (batch, longest), padded with PAD, and their lengths (batch,)."""
    lengths = np.array([len(sentence) for sentence in sentences], np.int64)
    words = np.full((len(sentences), lengths.max()), PAD, np.int64)
    words[np.arange(words.shape[1]) < lengths[:, None]] = np.concatenate(sentences)
    return words, lengths
