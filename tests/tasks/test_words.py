"""Sentences as numbers of words."""

import numpy as np
import pytest

from normlab.errors import UserError
from normlab.tasks.words import PAD, UNKNOWN, Vocabulary, padded, split


def test_words_and_marks_in_lower_case():
    assert split("Zwei Männer, die's.") == ["zwei", "männer", ",", "die", "'", "s", "."]


def test_the_most_frequent_words_have_numbers_ties_by_alphabet():
    vocabulary = Vocabulary.of([["b", "a", "c"], ["b", "c"]], 4)
    assert vocabulary.words == ["b", "c"] and len(vocabulary) == 4
    assert vocabulary.encode(["c", "a", "b"]).tolist() == [3, UNKNOWN, 2]
    assert vocabulary.encode([]).tolist() == [UNKNOWN]
    with pytest.raises(UserError, match="vocab_size=2"):
        Vocabulary.of([["a"]], 2)


def test_padding():
    words, lengths = padded([np.array([2, 3]), np.array([4])])
    assert words.tolist() == [[2, 3], [4, PAD]] and lengths.tolist() == [2, 1]
