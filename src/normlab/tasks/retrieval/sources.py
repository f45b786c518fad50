"""Captions and what they describe: sentence pairs, or image features with captions.

Each function is the target of one kind of file in `conf/data/` and returns a whole `Retrieval`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from normlab.errors import UserError
from normlab.files import hash_bytes, hash_json
from normlab.tasks.translation import corpora
from normlab.tasks.translation.corpora import Bitext, Corpus, read_lines
from normlab.types import Count


@dataclass(frozen=True)
class Described:
    """Captions of targets: caption i describes target i // captions_per_target."""

    captions: list[str]
    targets: list[str] | np.ndarray  # sentences, or (targets, features) floats

    @property
    def captions_per_target(self) -> int:
        """Returns how many captions a target has."""
        return len(self.captions) // len(self.targets)

    @property
    def sha256(self) -> str:
        """Returns the hash of captions and targets."""
        targets = self.targets
        if isinstance(targets, np.ndarray):
            targets = [hash_bytes(np.ascontiguousarray(targets))]
        return hash_json([self.captions, targets])


@dataclass(frozen=True)
class Retrieval:
    """A train and a dev set, and test sets by name."""

    train: Described
    dev: Described
    test: dict[str, Described]


def grammar(*, seed: int, train: Count, dev: Count, test: Count, src: str, tgt: str) -> Retrieval:
    """Returns sentences of the embedded grammar: `src` is the caption of its translation `tgt`."""
    return _of_pairs(corpora.grammar(seed=seed, train=train, dev=dev, test=test, src=src, tgt=tgt))


def pairs(*, dir: str, train: str, dev: str, test: Sequence[str], src: str, tgt: str) -> Retrieval:
    """Returns the sentence pairs in `dir`/<name>.<language> (corpora.py's `text`), as above."""
    return _of_pairs(corpora.text(dir=dir, train=train, dev=dev, test=test, src=src, tgt=tgt))


def hub_pairs(
    *,
    path: str,
    config: str | None,
    revision: str,
    train: str,
    dev: str,
    test: Sequence[str],
    src: str,
    tgt: str,
    format: str,
) -> Retrieval:
    """Returns the sentence pairs of a hub data set (corpora.py's `hub`), as above."""
    return _of_pairs(
        corpora.hub(
            path=path,
            config=config,
            revision=revision,
            train=train,
            dev=dev,
            test=test,
            src=src,
            tgt=tgt,
            format=format,
        )
    )


def features(
    *, dir: str, train: str, dev: str, test: Sequence[str], captions_per_image: Count
) -> Retrieval:
    """Returns images as vectors, with captions: `dir`/<name>_ims.npy and <name>_caps.txt.

    The array is (images, features), also as the only one of a .npz file. The captions stand one a
    line, those of one image after each other, as Vendrov et al. published COCO's. Captions of fewer
    images than there are rows, as when each row is repeated for every caption, are refused.
    """
    folder = Path(dir).expanduser()

    def described(name: str) -> Described:
        path = folder / f"{name}_caps.txt"
        if not path.exists():
            raise UserError(
                f"{path} does not exist: dir={dir} must hold NAME_caps.txt and NAME_ims.npy for "
                "each name in train, dev and test."
            )
        captions, vectors = read_lines(path), _vectors(folder, name)
        if len(captions) != captions_per_image * len(vectors):
            raise UserError(
                f"{name}_caps.txt has {len(captions)} captions and {name}_ims {len(vectors)} "
                f"images: captions_per_image={captions_per_image} must be their ratio."
            )
        return Described(captions, vectors)

    return Retrieval(described(train), described(dev), {name: described(name) for name in test})


def _of_pairs(corpus: Corpus) -> Retrieval:
    def described(bitext: Bitext) -> Described:
        return Described(bitext.src, bitext.tgt)

    tests = {name: described(bitext) for name, bitext in corpus.test.items()}
    return Retrieval(described(corpus.train), described(corpus.dev), tests)


def _vectors(folder: Path, name: str) -> np.ndarray:
    """Returns the features (images, features); raises UserError for files that hold no such."""
    for path in (folder / f"{name}_ims.npy", folder / f"{name}_ims.npz"):
        if not path.exists():
            continue
        try:
            # Mapped: the training set of COCO is larger than many memories.
            found = np.load(path, mmap_mode="r" if path.suffix == ".npy" else None)
            array = found if isinstance(found, np.ndarray) else found[found.files[0]]
        except (OSError, ValueError, IndexError) as error:
            raise UserError(f"cannot read {path} ({error}): check the file.") from error
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.floating):
            raise UserError(
                f"{path} holds {array.dtype} of shape {array.shape}: features must be floats of "
                "shape (images, features)."
            )
        return array
    raise UserError(f"neither {name}_ims.npy nor {name}_ims.npz is in dir={folder}.")
