"""The subject of the paper: normalisation layers, one formula and several implementations each."""

from normlab.norms.base import Norm, NormFactory, implementation, reparameterise
from normlab.norms.modules import L2Norm, LayerNorm, NoNorm, PRMSNorm, RMSNorm, WeightNorm

__all__ = [
    "L2Norm",
    "LayerNorm",
    "NoNorm",
    "Norm",
    "NormFactory",
    "PRMSNorm",
    "RMSNorm",
    "WeightNorm",
    "implementation",
    "reparameterise",
]
