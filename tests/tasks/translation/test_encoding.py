import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from normlab.errors import UserError
from normlab.tasks.translation.corpora import Bitext, Corpus
from normlab.tasks.translation.encoding import encode_bitext, encode_corpus, truncate
from normlab.tasks.translation.tokenizer import EOS, decode

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def bitext(name: str, count: int) -> Bitext:
    src = [" ".join(WORDS[(i + j) % 10] for j in range(1 + i % 5)) for i in range(count)]
    return Bitext(name, src, [sentence.upper() for sentence in src])


CORPUS = Corpus(bitext("train", 50), bitext("dev", 7), {"a": bitext("a", 3)})
SIZES = dict(vocab_size=300, max_length=20, eval_max_length=20)


def sentences(encoded, ids: np.ndarray, offsets: np.ndarray) -> list[str]:
    pieces = np.split(ids, offsets[1:-1])
    assert all(piece[-1] == EOS for piece in pieces)
    return decode(encoded.tokenizer, pieces)


def assert_same(one, other) -> None:
    assert one.tokenizer.to_str() == other.tokenizer.to_str()
    assert one.tokenizer.encode_special_tokens == other.tokenizer.encode_special_tokens
    assert (one.dropped, one.truncated) == (other.dropped, other.truncated)
    assert list(one.test) == list(other.test)
    for a, b in zip(
        [one.train, one.dev, *one.test.values()],
        [other.train, other.dev, *other.test.values()],
        strict=True,
    ):
        for key, value in vars(a).items():
            assert np.array_equal(value, vars(b)[key])


def test_ids_say_what_the_sentences_say_in_their_order(tmp_path):
    encoded = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path)
    assert encoded.tokenizer.get_vocab_size() == 300
    for data, text in [
        (encoded.train, CORPUS.train),
        (encoded.dev, CORPUS.dev),
        (encoded.test["a"], CORPUS.test["a"]),
    ]:
        assert len(data) == len(text.src)
        assert sentences(encoded, data.src_ids, data.src_offsets) == text.src
        assert sentences(encoded, data.tgt_ids, data.tgt_offsets) == text.tgt
    assert (encoded.dropped, encoded.truncated) == (0, {"dev": 0, "test/a": 0})


def test_subwords_are_learned_on_the_train_split_only(tmp_path):
    other = replace(CORPUS, dev=Bitext("dev", ["xyzzy"] * 9, ["plugh"] * 9), test={})
    one = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path).tokenizer
    assert encode_corpus(other, **SIZES, cache_dir=tmp_path).tokenizer.to_str() == one.to_str()


def test_a_second_start_reads_the_cache(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path)
        second = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path)
    assert_same(first, second)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("encoded the corpus" in message for message in messages) == 1
    assert sum(str(tmp_path) in message for message in messages) == 1


@pytest.mark.parametrize(
    "changes",
    [
        dict(vocab_size=301),
        dict(max_length=19),
        dict(eval_max_length=19),
        dict(corpus=replace(CORPUS, dev=Bitext("dev", ["x"], ["y"]))),
        dict(corpus=replace(CORPUS, dev=Bitext("dev", CORPUS.dev.tgt, CORPUS.dev.src))),
        dict(corpus=replace(CORPUS, test={"b": CORPUS.test["a"]})),
    ],
)
def test_other_content_is_another_entry(tmp_path, changes):
    encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path)
    encode_corpus(**(dict(corpus=CORPUS, **SIZES) | changes), cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def damage_by_flipping(entry):
    content = bytearray((entry / "train.src_ids.npy").read_bytes())
    content[-1] ^= 1
    (entry / "train.src_ids.npy").write_bytes(content)


def damage_by_truncating(entry):
    file = entry / "dev.tgt_ids.npy"
    file.write_bytes(file.read_bytes()[:-5])


def damage_by_removing(entry):
    (entry / "meta.npy").unlink()


def damage_the_table(entry):
    (entry / "sha256").write_text("[]")


def damage_by_forgetting(entry):
    first, *_ = (entry / "sha256").read_text().split("\n")
    (entry / "sha256").write_text(first + "\n")


@pytest.mark.parametrize(
    "damage",
    [
        damage_by_flipping, damage_by_truncating, damage_by_removing, damage_the_table,
        damage_by_forgetting,
    ],
)  # fmt: skip
def test_a_damaged_entry_is_built_again_with_a_warning(tmp_path, caplog, damage):
    first = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path)
    [entry] = tmp_path.iterdir()
    damage(entry)
    assert_same(encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path), first)
    assert "damaged" in caplog.text
    caplog.clear()
    assert_same(encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path), first)
    assert "damaged" not in caplog.text
    assert list(tmp_path.iterdir()) == [entry]


def test_runs_that_start_together_share_one_whole_entry(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(
            pool.map(lambda _: encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path), range(8))
        )
    for run in runs[1:]:
        assert_same(runs[0], run)
    assert len(list(tmp_path.iterdir())) == 1


def test_long_pairs_leave_training_and_are_counted(tmp_path, caplog):
    full = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path).train
    limit = 4
    keep = np.maximum(full.src_lengths, full.tgt_lengths) <= limit
    encoded = encode_corpus(CORPUS, **SIZES | {"max_length": limit}, cache_dir=tmp_path)
    assert encoded.truncated == {"dev": 0, "test/a": 0}  # evaluation has a limit of its own
    kept = [text for text, k in zip(CORPUS.train.src, keep, strict=True) if k]
    assert 0 < len(kept) < 50
    assert sentences(encoded, encoded.train.src_ids, encoded.train.src_offsets) == kept
    assert encoded.dropped == 50 - len(kept)
    assert f"dropped {50 - len(kept)} of 50" in caplog.text


def test_long_evaluation_pairs_are_cut_with_a_warning_and_never_dropped(tmp_path, caplog):
    full = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path).dev
    encoded = encode_corpus(CORPUS, **SIZES | {"eval_max_length": 4}, cache_dir=tmp_path)
    assert encoded.dropped == 0
    dev = encoded.dev
    assert len(dev) == len(full)
    assert dev.src_lengths.max() == dev.tgt_lengths.max() == 4
    cut = int((np.maximum(full.src_lengths, full.tgt_lengths) > 4).sum())
    assert encoded.truncated["dev"] == cut > 0
    assert f"dev: cut {cut} pairs" in caplog.text
    for i, sentence in enumerate(sentences(encoded, dev.src_ids, dev.src_offsets)):
        assert CORPUS.dev.src[i].startswith(sentence)


def test_cutting_keeps_the_beginning_and_the_end_symbol(tmp_path):
    tokenizer = encode_corpus(CORPUS, **SIZES, cache_dir=tmp_path).tokenizer
    data = encode_bitext(tokenizer, ["abcdef", "", "ab"], ["a", "abcdef", ""])
    cut, count = truncate(data, 4)
    texts = [decode(tokenizer, np.split(cut.src_ids, cut.src_offsets[1:-1]))]
    texts += [decode(tokenizer, np.split(cut.tgt_ids, cut.tgt_offsets[1:-1]))]
    assert texts == [["abc", "", "ab"], ["a", "abc", ""]]
    assert cut.src_lengths.tolist() == [4, 1, 3]
    assert count == 2


def test_empty_evaluation_sentences_keep_their_place(tmp_path):
    corpus = replace(CORPUS, test={"a": Bitext("a", ["", "one", ""], ["ONE", "", ""])})
    data = encode_corpus(corpus, **SIZES, cache_dir=tmp_path).test["a"]
    assert data.src_lengths.tolist()[::2] == [1, 1]
    assert data.tgt_lengths.tolist()[1:] == [1, 1]


def test_nothing_left_to_train_on_is_refused(tmp_path):
    long = replace(CORPUS, train=Bitext("train", ["one two three"] * 9, ["eins zwei"] * 9))
    with pytest.raises(UserError, match=r"max_length=2"):
        encode_corpus(long, vocab_size=259, max_length=2, eval_max_length=9, cache_dir=tmp_path)


def test_a_vocabulary_beyond_the_data_is_refused_and_nothing_cached(tmp_path):
    with pytest.raises(UserError, match=r"vocab_size=9999"):
        encode_corpus(CORPUS, **SIZES | {"vocab_size": 9999}, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
