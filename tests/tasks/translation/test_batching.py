import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from normlab.errors import UserError
from normlab.tasks.translation.batching import (
    EncodedBitext,
    collate,
    epoch_batches,
    eval_batches,
    padding_fraction,
)
from normlab.tasks.translation.tokenizer import BOS, EOS, PAD

sides = st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=200).map(
    lambda pairs: np.array(pairs).T
)
plans = st.fixed_dictionaries(
    dict(
        batch_tokens=st.integers(1, 300),
        pool=st.integers(1, 250),
        seed=st.integers(0, 9),
        epoch=st.integers(0, 9),
    )
)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return [list(batch) for batch in one] == [list(batch) for batch in other]


def check_budget(batches, lengths, batch_tokens) -> None:
    width = lengths.max(axis=0)
    for batch in batches:
        assert len(batch) == 1 or len(batch) * width[batch].max() <= batch_tokens


@given(sides, plans)
def test_every_sentence_is_in_exactly_one_batch_of_an_epoch(lengths, plan):
    batches = epoch_batches(*lengths, **plan)
    assert sorted(np.concatenate(batches)) == list(range(lengths.shape[1]))
    check_budget(batches, lengths, plan["batch_tokens"])


@given(sides, plans)
def test_batches_are_a_function_of_seed_and_epoch(lengths, plan):
    assert same(epoch_batches(*lengths, **plan), epoch_batches(*lengths, **plan))


def test_epochs_and_seeds_differ():
    lengths = np.random.default_rng(0).integers(1, 30, (2, 500))
    plan = dict(batch_tokens=100, pool=200)
    first = epoch_batches(*lengths, **plan, seed=1, epoch=0)
    assert not same(first, epoch_batches(*lengths, **plan, seed=1, epoch=1))
    assert not same(first, epoch_batches(*lengths, **plan, seed=2, epoch=0))


def test_a_batch_is_as_full_as_the_budget_allows():
    lengths = np.full((2, 100), 10)
    batches = epoch_batches(*lengths, batch_tokens=105, pool=100, seed=0, epoch=0)
    assert [len(batch) for batch in batches] == [10] * 10


def test_a_sentence_over_the_budget_gets_a_batch_of_its_own():
    lengths = np.array([[50, 2, 2], [3, 2, 2]])
    batches = epoch_batches(*lengths, batch_tokens=10, pool=10, seed=0, epoch=0)
    assert sorted(sorted(batch) for batch in batches) == [[0], [1, 2]]


@pytest.mark.parametrize("name", ["batch_tokens", "pool"])
def test_sizes_below_one_are_refused(name):
    plan = dict(batch_tokens=10, pool=10, seed=0, epoch=0) | {name: 0}
    with pytest.raises(UserError):
        epoch_batches(np.array([1]), np.array([1]), **plan)


@given(sides, st.integers(1, 300))
def test_evaluation_batches_hold_every_sentence_once_longest_first(lengths, batch_tokens):
    batches = eval_batches(*lengths, batch_tokens=batch_tokens)
    assert sorted(np.concatenate(batches)) == list(range(lengths.shape[1]))
    check_budget(batches, lengths, batch_tokens)
    widest = [lengths.max(axis=0)[batch].max() for batch in batches]
    assert widest == sorted(widest, reverse=True)


def test_an_empty_corpus_has_no_evaluation_batch():
    assert eval_batches(np.array([], int), np.array([], int), batch_tokens=10) == []


def encoded(src: list[list[int]], tgt: list[list[int]]) -> EncodedBitext:
    def flat(sentences):
        ids = np.array([i for sentence in sentences for i in sentence], dtype=np.int32)
        return ids, np.cumsum([0] + [len(sentence) for sentence in sentences])

    return EncodedBitext(*flat(src), *flat(tgt))


def test_collate_pads_shifts_and_counts():
    data = encoded([[5, 6, EOS], [EOS], [7, EOS]], [[8, EOS], [9, 10, EOS], [11, EOS]])
    batch = collate(data, np.array([2, 0, 1]))
    assert batch.src.tolist() == [[7, EOS, PAD], [5, 6, EOS], [EOS, PAD, PAD]]
    assert batch.src_lengths.tolist() == [2, 3, 1]
    assert batch.tgt_in.tolist() == [[BOS, 11, PAD], [BOS, 8, PAD], [BOS, 9, 10]]
    assert batch.tgt_out.tolist() == [[11, EOS, PAD], [8, EOS, PAD], [9, 10, EOS]]
    assert batch.positions.tolist() == [0, 1, 3, 4, 6, 7, 8]
    assert batch.labels.tolist() == [11, EOS, 8, EOS, 9, 10, EOS]
    assert batch.items == 7
    assert batch.indices.tolist() == [2, 0, 1]


sentences = st.lists(st.integers(3, 99), max_size=12).map(lambda ids: [*ids, EOS])


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=20), st.randoms())
def test_collate_keeps_every_token_in_its_place(pairs, random):
    src, tgt = map(list, zip(*pairs, strict=True))
    indices = np.array(random.choices(range(len(pairs)), k=5))
    batch = collate(encoded(src, tgt), indices)
    for row, i in enumerate(indices):
        src_end, tgt_end = len(src[i]), len(tgt[i])
        assert batch.src[row].tolist()[:src_end] == src[i]
        assert batch.tgt_out[row].tolist()[:tgt_end] == tgt[i]
        assert batch.tgt_in[row].tolist()[:tgt_end] == [BOS, *tgt[i][:-1]]
        assert (batch.src[row, src_end:] == PAD).all()
        assert (batch.tgt_out[row, tgt_end:] == PAD).all()
        assert (batch.tgt_in[row, tgt_end:] == PAD).all()
    assert torch.equal(batch.tgt_out.flatten()[batch.positions], batch.labels)
    assert batch.items == int((batch.tgt_out != PAD).sum()) == len(batch.labels)
    assert int((batch.src != PAD).sum()) == int(batch.src_lengths.sum())


@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=9), st.integers(2, 5))
def test_processes_share_a_batch_without_overlap_and_each_counts_all_of_it(pairs, world_size):
    src, tgt = map(list, zip(*pairs, strict=True))
    data, indices = encoded(src, tgt), np.arange(len(pairs))
    whole = collate(data, indices)
    parts = [collate(data, indices, rank, world_size) for rank in range(world_size)]
    assert {part.items for part in parts} == {whole.items}
    assert sum(len(part.labels) for part in parts) == len(whole.labels)
    taken = [int(i) for part in parts if len(part.labels) for i in part.indices]
    assert sorted(taken) == list(range(len(pairs)))


def test_a_batch_moves_with_all_its_tensors():
    batch = collate(encoded([[5, EOS]], [[8, EOS]]), np.array([0])).to("meta")
    tensors = [value for value in vars(batch).values() if isinstance(value, torch.Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_padding_fraction_counts_both_sides():
    data = encoded([[5, EOS], [EOS]], [[8, EOS], [8, 9, 9, EOS]])
    assert padding_fraction([np.array([0, 1])], data) == pytest.approx(1 - 9 / (2 * 2 + 2 * 4))
    assert padding_fraction([np.array([0]), np.array([1])], data) == 0


def test_padding_stays_under_a_tenth_on_sentences_like_real_ones():
    rng = np.random.default_rng(0)
    src = np.clip(rng.lognormal(2.7, 0.4, 20_000), 3, 60).astype(int)
    tgt = np.clip(src * rng.normal(1.05, 0.2, 20_000), 3, 60).astype(int)
    data = EncodedBitext(
        np.zeros(0), np.cumsum([0, *src]), np.zeros(0), np.cumsum([0, *tgt])
    )  # the lengths are all that counts
    batches = epoch_batches(src, tgt, batch_tokens=2048, pool=20_000, seed=0, epoch=0)
    assert padding_fraction(batches, data) < 0.1
