"""Batches of equal size: a function of seed and epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.errors import UserError
from normlab.tasks.batching import shuffled_batches


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 3))
def test_every_batch_is_full_and_no_example_comes_twice(examples, size, epoch):
    if size > examples:
        with pytest.raises(UserError, match="batch_size"):
            shuffled_batches(examples, size, seed=1, epoch=epoch)
        return
    batches = shuffled_batches(examples, size, seed=1, epoch=epoch)
    assert [len(batch) for batch in batches] == [size] * (examples // size)
    chosen = np.concatenate(batches)
    assert len(set(chosen.tolist())) == len(chosen) and chosen.max() < examples
    again = shuffled_batches(examples, size, seed=1, epoch=epoch, world_size=min(size, 2))
    assert all(np.array_equal(a, b) for a, b in zip(again, batches, strict=True))


def test_epochs_and_seeds_differ():
    first = np.concatenate(shuffled_batches(50, 10, seed=1, epoch=0))
    for seed, epoch in ((1, 1), (2, 0)):
        other = np.concatenate(shuffled_batches(50, 10, seed=seed, epoch=epoch))
        assert not np.array_equal(first, other)


def test_a_batch_has_an_example_for_every_process():
    with pytest.raises(UserError, match="batch_size=3 is too small for 4 processes"):
        shuffled_batches(50, 3, seed=1, epoch=0, world_size=4)


def test_batches_by_length_hold_the_same_examples_with_less_padding():
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    plain = shuffled_batches(640, 10, seed=1, epoch=0)
    sorted_ = shuffled_batches(640, 10, seed=1, epoch=0, lengths=lengths)
    assert sorted(np.concatenate(sorted_)) == sorted(np.concatenate(plain))
    padded = [sum(10 * lengths[batch].max() for batch in batches) for batches in (plain, sorted_)]
    assert padded[1] < 0.65 * padded[0]
    longest = [lengths[batch].max() for batch in sorted_]
    assert longest != sorted(longest)
