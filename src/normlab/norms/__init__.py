"""The subject of the paper: normalisation layers, one formula and several implementations each."""

from normlab.norms.base import Norm, NormFactory, implementation, reparameterise
from normlab.norms.modules import L2Norm, LayerNorm, NoNorm, PRMSNorm, RMSNorm, WeightNorm
from normlab.norms.positions import BatchNorm, GroupNorm, InstanceNorm
from normlab.norms.variants import Affine, CRMSNorm, DyT, Recentre, ScaleNorm

__all__ = [
    "Affine",
    "BatchNorm",
    "CRMSNorm",
    "DyT",
    "GroupNorm",
    "InstanceNorm",
    "L2Norm",
    "LayerNorm",
    "NoNorm",
    "Norm",
    "NormFactory",
    "PRMSNorm",
    "RMSNorm",
    "Recentre",
    "ScaleNorm",
    "WeightNorm",
    "implementation",
    "reparameterise",
]
