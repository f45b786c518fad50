"""The subject of the paper: normalisation layers, one formula and several implementations each."""

from normlab.norms.modules import LayerNorm, NoNorm, PRMSNorm, RMSNorm

__all__ = ["LayerNorm", "NoNorm", "PRMSNorm", "RMSNorm"]
