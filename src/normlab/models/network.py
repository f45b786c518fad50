"""What every network owes: a role for each of its weights."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import nn


class Role(NamedTuple):
    """What a parameter is for, so that an initialisation can choose it.

    `kind` is one of the names that `init.apply_to` knows (initialization.py). `blocks` counts the
    equal matrices stacked along dimension 0 (joined q/k/v: 3), each initialised by itself.
    `orthogonal` ones are the square maps that Nematus draws random orthogonal at the paper's sizes;
    all others are normal here, whatever their shape.
    """

    kind: str
    blocks: int = 1
    orthogonal: bool = False


class Network(nn.Module, ABC):
    """A network whose weights can be initialised by role; norms and biases have none."""

    @abstractmethod
    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight matrix and vector to initialise, by parameter name."""
