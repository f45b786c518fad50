"""Batches of equally many examples, for tasks that need not sort by length."""

import numpy as np

from normlab.errors import UserError


def shuffled_batches(
    examples: int, batch_size: int, *, seed: int, epoch: int, world_size: int = 1
) -> list[np.ndarray]:
    """Returns the numbers of the examples of each batch of one epoch, in order.

    A pure function of `seed` and `epoch`. All batches hold `batch_size` examples, of which each of
    `world_size` processes has a share; what does not divide is dropped, others in each epoch.
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
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    return list(order[: examples // batch_size * batch_size].reshape(-1, batch_size))
