"""From sentences to ids, once: subwords learned on the train split, everything encoded, cached.

The cache is keyed by content, so it is never stale: other sentences, sizes, tokenizers version
or code make another entry, and runs of a sweep that start together share one.
"""

import json
import logging
import time
from array import array
from collections.abc import Iterator, Set
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from tokenizers import Tokenizer

from normlab.errors import UserError
from normlab.files import hash_file, hash_json, hash_text
from normlab.tasks.cache import Arrays, cached
from normlab.tasks.translation import tokenizer
from normlab.tasks.translation.batching import EncodedBitext
from normlab.tasks.translation.corpora import Bitext, Corpus
from normlab.tasks.translation.tokenizer import EOS, encode, train_tokenizer

log = logging.getLogger(__name__)

# The code that decides what ids come out: a change of it makes new cache entries.
SOURCES = (Path(__file__), Path(tokenizer.__file__))
PARTS = ("src_ids", "src_offsets", "tgt_ids", "tgt_offsets")


@dataclass(frozen=True)
class EncodedCorpus:
    """A corpus as ids. dev and test keep their sentences' numbers, train has lost the long ones."""

    tokenizer: Tokenizer
    train: EncodedBitext
    dev: EncodedBitext
    test: dict[str, EncodedBitext]
    dropped: int  # training pairs over max_length, left out
    truncated: dict[str, int]  # evaluation pairs over eval_max_length, cut: "dev", "test/<name>"
    contents: dict[str, Any] = field(default_factory=dict)  # what the sets hold: hashes and numbers


def encode_corpus(
    corpus: Corpus,
    *,
    vocab_size: int,
    max_length: int,
    eval_max_length: int,
    cache_dir: str | Path,
) -> EncodedCorpus:
    """Return `corpus` as ids of a joint BPE of `vocab_size`, from `cache_dir` when it is there.

    A sentence of more than `max_length` subwords, EOS included, on either side drops its pair from
    training; one of more than `eval_max_length` is cut in evaluation. Raises UserError when nothing
    is left to train on, or the train split is too small for the vocabulary.
    """
    limits = {"max_length": max_length, "eval_max_length": eval_max_length}
    for name, limit in limits.items():
        if limit < 2:
            raise UserError(f"{name}={limit} leaves no room for a word and EOS: set 2 or more.")
    contents = _contents(corpus)
    key = hash_json(
        [contents, vocab_size, limits, tokenizers.__version__, *map(hash_file, SOURCES)]
    )

    def make() -> Arrays:
        started = time.monotonic()
        arrays = _arrays(_encode_corpus(corpus, vocab_size, max_length, eval_max_length))
        log.info("encoded the corpus in %.1f s", time.monotonic() - started)
        return arrays

    encoded = _corpus(cached(cache_dir, key[:32], make))
    if encoded.dropped:
        total = len(corpus.train.src)
        log.warning(
            "train: dropped %d of %d pairs longer than max_length=%d subwords",
            encoded.dropped,
            total,
            max_length,
        )
    contents["train"]["dropped"] = encoded.dropped
    for name, count in encoded.truncated.items():
        contents[name]["cut"] = count
        if count:
            log.warning(
                "%s: cut %d pairs to eval_max_length=%d subwords", name, count, eval_max_length
            )
    contents["subwords"] = hash_text(encoded.tokenizer.to_str())
    return replace(encoded, contents=contents)


def encode_bitext(tokenizer: Tokenizer, src: list[str], tgt: list[str]) -> EncodedBitext:
    """Return sentence pairs as ids, EOS after each sentence; nothing is dropped or cut."""
    return EncodedBitext(*_encode_side(tokenizer, src), *_encode_side(tokenizer, tgt))


def truncate(data: EncodedBitext, max_length: int) -> tuple[EncodedBitext, int]:
    """Return `data` with each sentence cut to `max_length` ids, the last one EOS, and pairs cut."""
    too_long = np.maximum(data.src_lengths, data.tgt_lengths) > max_length
    src = _cut_side(data.src_ids, data.src_offsets, max_length)
    tgt = _cut_side(data.tgt_ids, data.tgt_offsets, max_length)
    return EncodedBitext(*src, *tgt), int(too_long.sum())


def _encode_corpus(
    corpus: Corpus, vocab_size: int, max_length: int, eval_max_length: int
) -> EncodedCorpus:
    train = corpus.train
    tokenizer = train_tokenizer(chain(train.src, train.tgt), vocab_size)
    encoded = encode_bitext(tokenizer, train.src, train.tgt)
    keep = np.maximum(encoded.src_lengths, encoded.tgt_lengths) <= max_length
    if not keep.any():
        raise UserError(
            f"every training pair is longer than max_length={max_length} subwords: raise it."
        )
    dev, test = corpus.dev, corpus.test
    cut_dev, dev_count = truncate(encode_bitext(tokenizer, dev.src, dev.tgt), eval_max_length)
    cut_test = {
        name: truncate(encode_bitext(tokenizer, bitext.src, bitext.tgt), eval_max_length)
        for name, bitext in test.items()
    }
    return EncodedCorpus(
        tokenizer,
        train=EncodedBitext(
            *_keep_side(encoded.src_ids, encoded.src_offsets, keep),
            *_keep_side(encoded.tgt_ids, encoded.tgt_offsets, keep),
        ),
        dev=cut_dev,
        test={name: data for name, (data, _) in cut_test.items()},
        dropped=int((~keep).sum()),
        truncated={"dev": dev_count} | {f"test/{n}": count for n, (_, count) in cut_test.items()},
    )


def _encode_side(tokenizer: Tokenizer, sentences: list[str]) -> tuple[np.ndarray, np.ndarray]:
    ids, lengths = array("i"), array("q")
    for sentence in encode(tokenizer, sentences):
        ids.extend(sentence)
        ids.append(EOS)
        lengths.append(len(sentence) + 1)
    return np.array(ids, dtype=np.int32), _offsets(np.array(lengths, dtype=np.int64))


def _offsets(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def _keep_side(
    ids: np.ndarray, offsets: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.diff(offsets)
    return ids[np.repeat(keep, lengths)], _offsets(lengths[keep])


def _cut_side(
    ids: np.ndarray, offsets: np.ndarray, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.diff(offsets)
    place = np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)  # of each id in its sentence
    cut = _offsets(np.minimum(lengths, max_length))
    ids = ids[place < max_length]
    ids[cut[1:] - 1] = EOS
    return ids, cut


def _contents(corpus: Corpus) -> dict[str, Any]:
    """Returns each set's hash and size; warns of pairs that stand in an earlier set too."""
    train, dev = (set(_pairs(bitext)) for bitext in (corpus.train, corpus.dev))
    tests = {f"test/{name}": bitext for name, bitext in corpus.test.items()}
    contents = {"train": _content(corpus.train)}
    for name, bitext in {"dev": corpus.dev, **tests}.items():
        known = _known(name, bitext, train, "training pairs too: scores on them mean little")
        contents[name] = {**_content(bitext), "in_train": known}
    for name, bitext in tests.items():
        _known(name, bitext, dev, "dev pairs too, by which checkpoints are chosen")
    return contents


def _pairs(bitext: Bitext) -> Iterator[tuple[str, str]]:
    return zip(bitext.src, bitext.tgt, strict=True)


def _known(name: str, bitext: Bitext, among: Set[tuple[str, str]], what: str) -> int:
    """Returns how many pairs of `bitext` are `among` others, and warns of them."""
    count = sum(pair in among for pair in _pairs(bitext))
    if count:
        log.warning("%s: %d of %d pairs are %s", name, count, len(bitext.src), what)
    return count


def _content(bitext: Bitext) -> dict[str, Any]:
    # Hashed as JSON, so that sentences cannot run together.
    return {"sentences": len(bitext.src), "sha256": hash_json([bitext.src, bitext.tgt])}


def _arrays(corpus: EncodedCorpus) -> Arrays:
    """Returns all of `corpus` but its contents as arrays."""
    meta = {
        "tokenizer": corpus.tokenizer.to_str(),
        "test": list(corpus.test),
        "dropped": corpus.dropped,
        "truncated": corpus.truncated,
    }
    sets = {"train": corpus.train, "dev": corpus.dev}
    sets |= {f"test{i}": data for i, data in enumerate(corpus.test.values())}
    arrays = {
        f"{name}.{part}": getattr(data, part) for name, data in sets.items() for part in PARTS
    }
    return arrays | {"meta": np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)}


def _corpus(arrays: Arrays) -> EncodedCorpus:
    """Returns the corpus of which `_arrays` made `arrays`."""
    meta = json.loads(arrays["meta"].tobytes())
    tokenizer = Tokenizer.from_str(meta["tokenizer"])
    tokenizer.encode_special_tokens = True  # the format does not keep this flag

    def bitext(name: str) -> EncodedBitext:
        return EncodedBitext(*(arrays[f"{name}.{part}"] for part in PARTS))

    return EncodedCorpus(
        tokenizer,
        train=bitext("train"),
        dev=bitext("dev"),
        test={name: bitext(f"test{i}") for i, name in enumerate(meta["test"])},
        dropped=meta["dropped"],
        truncated=meta["truncated"],
    )
