"""Batches of equal size: a function of seed, epoch and rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.errors import UserError
from normlab.tasks.batching import shuffled_batches


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 4), st.integers(0, 3))
def test_ranks_share_an_epoch_evenly_and_without_overlap(examples, size, world, epoch):
    if examples // size // world == 0:
        with pytest.raises(UserError, match="batch_size"):
            shuffled_batches(examples, size, seed=1, epoch=epoch, world_size=world)
        return
    ranks = [
        shuffled_batches(examples, size, seed=1, epoch=epoch, rank=rank, world_size=world)
        for rank in range(world)
    ]
    assert {len(batches) for batches in ranks} == {examples // size // world}
    chosen = np.concatenate([batch for batches in ranks for batch in batches])
    assert len(set(chosen.tolist())) == len(chosen) and chosen.max() < examples
    again = shuffled_batches(examples, size, seed=1, epoch=epoch, world_size=world)
    assert all(np.array_equal(a, b) for a, b in zip(again, ranks[0], strict=True))


def test_epochs_and_seeds_differ():
    first = np.concatenate(shuffled_batches(50, 10, seed=1, epoch=0))
    for seed, epoch in ((1, 1), (2, 0)):
        other = np.concatenate(shuffled_batches(50, 10, seed=seed, epoch=epoch))
        assert not np.array_equal(first, other)
