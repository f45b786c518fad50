"""Batches of equally many examples, a function of seed and epoch."""

import numpy as np

from normlab.errors import UserError

POOL = 16  # batches whose examples are sorted by length together: less padding, less mixing


def shuffled_batches(
    examples: int,
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    lengths: np.ndarray | None = None,
    world_size: int = 1,
) -> list[np.ndarray]:
    """Returns the numbers of the examples of each batch of one epoch, in order.

    A pure function of `seed` and `epoch`. All batches hold `batch_size` examples, of which each of
    `world_size` processes has a share; what does not divide is dropped, others in each epoch. With
    `lengths` (examples,) those of a batch are of similar length.
    Raises UserError when there is no batch, or no example in it for every process.
    """
    if batch_size > examples:
        raise UserError(
            f"batch_size={batch_size} is more than the {examples} training examples: lower it."
        )
    if batch_size < world_size:
        raise UserError(
            f"batch_size={batch_size} is too small for {world_size} processes: raise it."
        )
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(examples)[: examples // batch_size * batch_size]
    if lengths is None:
        return list(order.reshape(-1, batch_size))
    pools = np.split(order, range(POOL * batch_size, len(order), POOL * batch_size))
    in_order = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    return list(rng.permutation(np.concatenate(in_order).reshape(-1, batch_size)))
