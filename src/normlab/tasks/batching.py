"""Batches of examples of one size, for tasks that need not sort by length."""

import numpy as np

from normlab.errors import UserError


def shuffled_batches(
    examples: int, batch_size: int, *, seed: int, epoch: int, rank: int = 0, world_size: int = 1
) -> list[np.ndarray]:
    """Returns the numbers of the examples of each batch of one rank in one epoch, in order.

    A pure function of its arguments. All batches hold `batch_size` examples; what does not divide
    is dropped, others in each epoch. Raises UserError when there is no batch for every rank.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    share = examples // batch_size // world_size
    if share == 0:
        raise UserError(
            f"batch_size={batch_size} is more than {examples} training examples give "
            f"{world_size} process{'es' * (world_size > 1)}: lower it."
        )
    batches = order[: share * world_size * batch_size].reshape(-1, batch_size)
    return list(batches[rank::world_size])
