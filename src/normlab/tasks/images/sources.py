"""Images with labels: drawn here, from parquet files, or from the Hugging Face hub.

Each function is the target of one kind of file in `conf/data/` and returns all `Pictures`. Rows of
files and of the hub hold an encoded image and a number, as CIFAR-10's on the hub do: `img`
({bytes}) and `label`. The dev set is the end of the training rows, which CIFAR-10 has shuffled.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from normlab.errors import UserError
from normlab.files import hash_bytes
from normlab.tasks.hub import load_splits
from normlab.tasks.images import shapes
from normlab.types import Count, Seed


@dataclass(frozen=True)
class Images:
    """Labelled images, decoded when asked for."""

    labels: np.ndarray  # (images,) int64
    pixels: Callable[[], np.ndarray]  # -> (images, channels, height, width) uint8
    sha256: str  # of images and labels, as they were given


@dataclass(frozen=True)
class Pictures:
    """A classification task: its classes by name, a train, a dev and a test set."""

    classes: Sequence[str]
    train: Images
    dev: Images
    test: Images


def drawn(*, seed: Seed, train: Count, dev: Count, test: Count) -> Pictures:
    """Returns drawn shapes (shapes.py); `train`, `dev` and `test` are numbers of images."""
    pixels, labels = shapes.draw(train + dev + test, seed)
    parts = []
    for start, count in ((0, train), (train, dev), (train + dev, test)):
        some, theirs = pixels[start : start + count], labels[start : start + count]
        digest = hash_bytes(some.tobytes() + theirs.tobytes())
        parts.append(Images(theirs, lambda some=some: some, digest))  # type: ignore[misc]
    return Pictures(shapes.CLASSES, *parts)


def files(*, dir: str, train: str, test: str, dev: Count, classes: Sequence[str]) -> Pictures:
    """Returns the images of the parquet files `dir`/<train>.parquet and `dir`/<test>.parquet.

    The last `dev` rows of the training file are the dev set; `classes` names the labels from 0.
    """
    import pyarrow.parquet

    folder = Path(dir).expanduser()

    def rows(name: str) -> tuple[list[bytes], list[int]]:
        path = folder / f"{name}.parquet"
        try:
            table = pyarrow.parquet.read_table(path, columns=["img", "label"])
        except (OSError, pyarrow.ArrowInvalid) as error:
            reason = str(error).split("\n")[0]
            raise UserError(
                f"cannot read {path} ({reason}): dir={dir} must hold {name}.parquet with columns "
                "img and label."
            ) from error
        return [row["bytes"] for row in table["img"].to_pylist()], table["label"].to_pylist()

    return _pictures(rows(train), rows(test), dev, classes)


def from_hub(
    *, path: str, revision: str, train: str, test: str, dev: Count, classes: Sequence[str]
) -> Pictures:
    """Returns the images of splits `train` and `test` of a hub data set with CIFAR-10's columns.

    `path` and `revision` are what `datasets.load_dataset` calls so; the last `dev` rows of the
    training split are the dev set; `classes` names the labels from 0.
    """
    instead = "use data=cifar10_files with parquet files of your own"
    tables = load_splits(path, None, revision, [train, test], instead)

    def rows(name: str) -> tuple[list[bytes], list[int]]:
        import datasets

        table = tables[name].cast_column("img", datasets.Image(decode=False))
        return [row["bytes"] for row in table["img"]], list(table["label"])

    return _pictures(rows(train), rows(test), dev, classes)


def _pictures(
    train: tuple[list[bytes], list[int]],
    test: tuple[list[bytes], list[int]],
    dev: int,
    classes: Sequence[str],
) -> Pictures:
    encoded, labels = train
    if dev >= len(encoded):
        raise UserError(f"dev={dev} leaves nothing of {len(encoded)} training images: lower it.")
    found = labels + test[1]
    if not set(found) <= set(range(len(classes))):
        raise UserError(
            f"classes must name every label: there are labels from {min(found)} to {max(found)}, "
            f"and {len(classes)} names."
        )
    return Pictures(
        classes,
        _images(encoded[:-dev], labels[:-dev]),
        _images(encoded[-dev:], labels[-dev:]),
        _images(*test),
    )


def _images(encoded: list[bytes], labels: list[int]) -> Images:
    numbers = np.array(labels, np.int64)
    digest = hashlib.sha256(numbers.tobytes())
    for image in encoded:
        digest.update(hashlib.sha256(image).digest())
    return Images(numbers, lambda: _decode(encoded), digest.hexdigest())


def _decode(encoded: list[bytes]) -> np.ndarray:
    """Returns the images (images, 3, height, width) uint8; raises UserError for a broken one."""
    from PIL import Image

    decoded = []
    for i, content in enumerate(encoded):
        try:
            with Image.open(io.BytesIO(content)) as image:
                decoded.append(np.asarray(image.convert("RGB")))
        except OSError as error:
            raise UserError(f"image {i} cannot be decoded ({error}): check the files.") from error
    if len(sizes := {image.shape for image in decoded}) > 1:
        raise UserError(f"images must have one size, got {sorted(sizes)[:3]}.")
    return np.ascontiguousarray(np.stack(decoded).transpose(0, 3, 1, 2))
