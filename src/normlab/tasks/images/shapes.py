"""Ten kinds of drawn shapes, without a download: place, size, tilt, colours and clutter vary.

A first run and the tests need images that are small, ours and not solved at once: the colours say
nothing of the class, noise lies over everything, and a disc of a third colour hides a part.
"""

import numpy as np

SIZE = 32  # pixels, height and width
CLASSES = (
    "disc",
    "ring",
    "square",
    "frame",
    "triangle",
    "plus",
    "cross",
    "rows",
    "columns",
    "checks",
)
Rng = np.random.Generator


def draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images (count, 3, 32, 32) uint8 and labels (count,) int64.

    A longer request begins with the shorter one.
    """
    rng = np.random.default_rng(seed)
    labels = np.empty(count, np.int64)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    for i in range(count):
        labels[i] = rng.integers(len(CLASSES))
        images[i] = _image(CLASSES[labels[i]], rng)
    return images, labels


def _image(name: str, rng: Rng) -> np.ndarray:
    """Returns one image (3, 32, 32) uint8."""
    ground, figure, cover = rng.uniform(0, 255, (3, 3, 1, 1))  # colours
    inside = _mask(name, *_grid(rng, centre=rng.uniform(12, 20, 2), radius=rng.uniform(6, 11)))
    image = np.where(inside, figure, ground)
    x, y = _grid(rng, centre=rng.uniform(4, 28, 2), radius=rng.uniform(3, 5))
    image = np.where(x * x + y * y < 1, cover, image)
    image += rng.normal(0, 20, image.shape)
    return image.clip(0, 255).astype(np.uint8)


def _grid(rng: Rng, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns coordinates (32, 32) in which the figure fills [-1, 1]^2, tilted by up to 17°."""
    angle = rng.uniform(-0.3, 0.3)
    down, right = np.mgrid[:SIZE, :SIZE].astype(np.float64)
    down, right = (down - centre[0]) / radius, (right - centre[1]) / radius
    return (
        np.cos(angle) * right - np.sin(angle) * down,
        np.sin(angle) * right + np.cos(angle) * down,
    )


def _mask(name: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Returns where (32, 32) the figure is."""
    distance, side = np.hypot(x, y), np.maximum(abs(x), abs(y))
    square = side < 0.9
    u, v = (x + y) / np.sqrt(2), (x - y) / np.sqrt(2)  # the axes turned by 45°
    match name:
        case "disc":
            return distance < 1
        case "ring":
            return (distance < 1) & (distance > 0.55)
        case "square":
            return square
        case "frame":
            return square & (side > 0.5)
        case "triangle":
            return (y < 0.8) & (abs(x) < (y + 1) / 2)
        case "plus":
            return (side < 1) & (np.minimum(abs(x), abs(y)) < 0.3)
        case "cross":
            return (distance < 1) & (np.minimum(abs(u), abs(v)) < 0.3)
        case "rows":
            return square & (np.floor(y / 0.36) % 2 == 0)
        case "columns":
            return square & (np.floor(x / 0.36) % 2 == 0)
        case _:  # checks
            return square & ((np.floor(x / 0.45) + np.floor(y / 0.45)) % 2 == 0)
