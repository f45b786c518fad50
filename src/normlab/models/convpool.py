"""ConvPool-CNN-C, the paper's image classifier (Table 10): nine convolutions with any norm.

Springenberg et al. 2015 in the variant of Salimans & Kingma 2016: Gaussian noise on the input, two
groups of three 3x3 convolutions with pooling and dropout after each, one 3x3 convolution without
padding, two 1x1 convolutions, the mean over positions and a dense layer. The norm goes over height
and width, for each image and channel by itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from normlab.models.dropout import Dropout
from normlab.models.network import Network, Role
from normlab.norms.base import NormFactory, outside_norms
from normlab.types import Count, Fraction, NonNegative

SLOPE = 0.1  # of the leaky ReLU, left of 0


class ConvPool(Network):
    """Logits of `classes` for images with `channels` planes, at least 12 pixels high and wide.

    `norm(dim, axes, parameter_axis)` makes a normalisation layer. width: channels of the first
    three convolutions, of the others twice that; noise: standard deviation of what is added to the
    input in training; dropout: after each pooling; channels_last: images in memory pixel by pixel,
    which changes speed only.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        norm: NormFactory,
        width: Count,
        noise: NonNegative,
        dropout: Fraction,
        channels_last: bool,
    ):
        super().__init__()
        self.noise = noise
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        w, w2 = width, 2 * width
        self.layers = nn.Sequential(
            Convolution(channels, w, norm, size=3, padding=1),
            Convolution(w, w, norm, size=3, padding=1),
            Convolution(w, w, norm, size=3, padding=1),
            nn.MaxPool2d(2),
            Dropout(dropout),
            Convolution(w, w2, norm, size=3, padding=1),
            Convolution(w2, w2, norm, size=3, padding=1),
            Convolution(w2, w2, norm, size=3, padding=1),
            nn.MaxPool2d(2),
            Dropout(dropout),
            Convolution(w2, w2, norm, size=3, padding=0),
            Convolution(w2, w2, norm, size=1, padding=0),
            Convolution(w2, w2, norm, size=1, padding=0),
        )
        self.dense = nn.Linear(w2, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Returns logits (batch, classes) of `images` (batch, channels, height, width)."""
        if self.training and self.noise:
            images = images + self.noise * torch.randn_like(images)
        x = self.layers(images.contiguous(memory_format=self.format))
        return self.dense(x.mean((2, 3)))  # (batch, 2 * width) -> (batch, classes)

    def roles(self) -> dict[str, Role]:
        """Returns the role of every weight: `convolution`, or `softmax` for the dense layer."""
        roles = {
            f"{name}.weight": Role("convolution")
            for name, module in outside_norms(self)
            if isinstance(module, nn.Conv2d)
        }
        return {**roles, "dense.weight": Role("softmax")}


class Convolution(nn.Module):
    """f(N(W * x) + b), f the leaky ReLU; `b` is the norm's own bias where it has one."""

    def __init__(self, d_input: int, d_output: int, norm: NormFactory, *, size: int, padding: int):
        super().__init__()
        self.convolution = nn.Conv2d(d_input, d_output, size, padding=padding, bias=False)
        self.norm = norm(d_output, axes=(-2, -1), parameter_axis=-3)
        own = self.norm.bias is None
        self.bias = nn.Parameter(torch.zeros(d_output)) if own else None

    def forward(self, x: Tensor) -> Tensor:
        """Returns (batch, d_output, height, width), 2 less on each side without padding."""
        y = self.norm(self.convolution(x))
        if self.bias is not None:
            # In its dtype, or autocast's activations would be fp32 from here.
            y = y + self.bias.to(y.dtype)[:, None, None]
        return F.leaky_relu(y, SLOPE, inplace=True)
