"""ZCA whitening: images whose pixels are uncorrelated over the training set, and still look alike.

Krizhevsky 2009; with scale and regularisation as in Salimans & Kingma 2016, whose network it is.
"""

import logging
import math
import time
from pathlib import Path

import numpy as np
import PIL
import torch
from torch import Tensor

from normlab.files import hash_bytes, hash_json
from normlab.tasks.cache import Arrays, cached
from normlab.tasks.images.sources import Pictures

log = logging.getLogger(__name__)

ROWS = 4096  # images turned to fp32 at a time


def whitened(pictures: Pictures, eps: float, cache_dir: str | Path) -> Arrays:
    """Returns "train", "dev" and "test" (images, channels, height, width), whitened, in fp16.

    The statistics are the training set's. fp16 rounds by 0.0005 where training adds noise of 0.15,
    and halves what a sweep's processes read from `cache_dir`.
    """
    parts = {"train": pictures.train, "dev": pictures.dev, "test": pictures.test}
    source = hash_bytes(Path(__file__).read_bytes())

    def make() -> Arrays:
        started = time.monotonic()
        pixels = {name: images.pixels() for name, images in parts.items()}
        mean, matrix = zca(scaled(pixels["train"]), eps)
        arrays = {name: _apply(images, mean, matrix) for name, images in pixels.items()}
        log.info("decoded and whitened the images in %.0f s", time.monotonic() - started)
        return arrays

    # The version of what decodes: another may round pixels otherwise, which whitening magnifies.
    key = hash_json([*(images.sha256 for images in parts.values()), eps, source, PIL.__version__])
    return cached(cache_dir, key[:32], make)


def scaled(pixels: np.ndarray) -> Tensor:
    """Returns uint8 images as fp32 vectors (images, pixels) in [-1, 1)."""
    flat = torch.from_numpy(pixels.reshape(len(pixels), -1)).float()
    return flat.sub_(127.5).div_(128)


def zca(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Returns mean (n,) and W (n, n): (x - mean) W has the identity for a covariance.

    `x` is (images, n). W = U (S + eps)^(-1/2) U^T from the covariance U S U^T, symmetric, so that
    pixels stay where they are. `eps`, above 0, keeps directions without variance from being blown
    up.
    """
    mean = x.mean(0)
    centred = x - mean
    count, n = x.shape
    if count < n:
        return mean, _zca_of_few(centred.double(), eps).to(x.dtype)
    variances, directions = torch.linalg.eigh((centred.T @ centred / count).double())
    scale = (variances.clamp(min=0) + eps).rsqrt()
    return mean, (directions * scale @ directions.T).to(x.dtype)


def _zca_of_few(centred: Tensor, eps: float) -> Tensor:
    """Returns the same W from the (images, images) products: seconds less for a hundred images.

    With centred centred^T / images = V S V^T, W = I / r - centred^T V D V^T centred / images, where
    r = eps^(1/2), q = (S + eps)^(1/2) and D = (1 / r - 1 / q) / S = 1 / (r q (r + q)).
    """
    count, n = centred.shape
    variances, directions = torch.linalg.eigh(centred @ centred.T / count)
    r, q = math.sqrt(eps), (variances.clamp(min=0) + eps).sqrt()
    half = (directions / (count * r * q * (r + q)).sqrt()).T @ centred  # (images, n)
    return torch.eye(n, dtype=centred.dtype) / r - half.T @ half


def _apply(pixels: np.ndarray, mean: Tensor, matrix: Tensor) -> np.ndarray:
    result = np.empty(pixels.shape, np.float16)
    for start in range(0, len(pixels), ROWS):
        some = pixels[start : start + ROWS]
        result[start : start + ROWS] = ((scaled(some) - mean) @ matrix).view(some.shape).numpy()
    return result
