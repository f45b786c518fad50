"""Retrieval's data: sentence pairs, image features with captions, and what is wrong with them."""

import numpy as np
import pytest
import torch

from normlab.errors import UserError
from normlab.models.order import Sentences
from normlab.tasks.retrieval.sources import features, grammar
from normlab.tasks.retrieval.task import OrderRetrieval

SETTINGS = {"seed": 1, "batch_size": 4, "vocab_size": 50, "max_length": 9, "margin": 0.05}
IMAGES = {"captions_per_image": 2, "train": "a", "dev": "b", "test": ["c"]}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, images in (("a", 6), ("b", 3), ("c", 2)):
        np.save(tmp_path / f"{name}_ims.npy", rng.random((images, 5), np.float32))
        captions = "".join(f"picture {i // 2} from side {i % 2}\n" for i in range(2 * images))
        (tmp_path / f"{name}_caps.txt").write_text(captions)
    return tmp_path


def test_each_caption_comes_once_an_epoch_with_its_own_image(folder):
    task = OrderRetrieval(features(dir=str(folder), **IMAGES), fold=1000, **SETTINGS)
    assert task.model_arguments["features"] == 5
    vectors = np.load(folder / "a_ims.npy")
    seen = []
    for make in task.batches(0):
        batch = make()
        assert isinstance(batch.captions, Sentences) and batch.items == 4
        assert np.array_equal(batch.targets.numpy(), vectors[batch.numbers.numpy()])
        for number, words in zip(batch.numbers, batch.captions.words, strict=True):
            assert task.vocabulary.words[words[1] - 2] == str(int(number))
            seen.append(tuple(words.tolist()))
    assert len(set(seen)) == 12


def test_a_npz_is_read_too(folder):
    vectors = np.load(folder / "b_ims.npy")
    (folder / "b_ims.npy").unlink()
    np.savez(folder / "b_ims.npz", vectors)
    assert np.array_equal(features(dir=str(folder), **IMAGES).dev.targets, vectors)


def test_what_is_wrong_with_features_is_said(folder):
    with pytest.raises(UserError, match="captions_per_image=5 must be their ratio"):
        features(dir=str(folder), **{**IMAGES, "captions_per_image": 5})
    with pytest.raises(UserError, match="neither d_ims.npy nor d_ims.npz"):
        (folder / "d_caps.txt").write_text("one\n")
        features(dir=str(folder), **{**IMAGES, "dev": "d"})
    np.save(folder / "b_ims.npy", np.zeros((3, 5), np.int64))
    with pytest.raises(UserError, match="int64 of shape \\(3, 5\\): features must be floats"):
        features(dir=str(folder), **IMAGES)


def test_pairs_have_two_vocabularies_and_long_sentences_are_cut():
    corpus = grammar(seed=1, train=40, dev=5, test=5, src="en", tgt="de")
    task = OrderRetrieval(corpus, fold=1000, **{**SETTINGS, "max_length": 3})
    arguments = task.model_arguments
    assert arguments["vocab"] == arguments["target_vocab"] == 50 and arguments["features"] is None
    batch = task.batches(0)[0]()
    assert batch.captions.words.shape[1] == batch.targets.words.shape[1] == 3
    assert torch.equal(batch.numbers, torch.from_numpy(task.batches(0)[0]().numbers.numpy()))
