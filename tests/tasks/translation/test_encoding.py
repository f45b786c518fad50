import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from normlab.data.corpora import Bitext, Corpus
from normlab.data.prepare import encode_bitext, prepare, truncate
from normlab.data.tokenizer import EOS, decode

from normlab.errors import UserError

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def bitext(name: str, count: int) -> Bitext:
    src = [" ".join(WORDS[(i + j) % 10] for j in range(1 + i % 5)) for i in range(count)]
    return Bitext(name, src, [sentence.upper() for sentence in src])


CORPUS = Corpus("en", "de", bitext("train", 50), bitext("dev", 7), {"a": bitext("a", 3)})
SIZES = dict(vocab_size=300, max_len=20)


def sentences(prepared, ids: np.ndarray, offsets: np.ndarray) -> list[str]:
    pieces = np.split(ids, offsets[1:-1])
    assert all(piece[-1] == EOS for piece in pieces)
    return decode(prepared.tokenizer, pieces)


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
    prepared = prepare(CORPUS, **SIZES, cache_dir=tmp_path)
    assert prepared.tokenizer.get_vocab_size() == 300
    for data, text in [
        (prepared.train, CORPUS.train),
        (prepared.dev, CORPUS.dev),
        (prepared.test["a"], CORPUS.test["a"]),
    ]:
        assert len(data) == len(text.src)
        assert sentences(prepared, data.src_ids, data.src_offsets) == text.src
        assert sentences(prepared, data.tgt_ids, data.tgt_offsets) == text.tgt
    assert (prepared.dropped, prepared.truncated) == (0, {"dev": 0, "test/a": 0})


def test_subwords_are_learned_on_the_train_split_only(tmp_path):
    other = replace(CORPUS, dev=Bitext("dev", ["xyzzy"] * 9, ["plugh"] * 9), test={})
    one = prepare(CORPUS, **SIZES, cache_dir=tmp_path).tokenizer
    assert prepare(other, **SIZES, cache_dir=tmp_path).tokenizer.to_str() == one.to_str()


def test_a_second_start_reads_the_cache(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        first = prepare(CORPUS, **SIZES, cache_dir=tmp_path)
        second = prepare(CORPUS, **SIZES, cache_dir=tmp_path)
    assert_same(first, second)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("encoded the corpus" in message for message in messages) == 1
    assert sum(str(tmp_path) in message for message in messages) == 1


@pytest.mark.parametrize(
    "changes",
    [
        dict(vocab_size=301),
        dict(max_len=19),
        dict(corpus=replace(CORPUS, dev=Bitext("dev", ["x"], ["y"]))),
        dict(corpus=replace(CORPUS, dev=Bitext("dev", CORPUS.dev.tgt, CORPUS.dev.src))),
        dict(corpus=replace(CORPUS, test={"b": CORPUS.test["a"]})),
    ],
)
def test_other_content_is_another_entry(tmp_path, changes):
    prepare(CORPUS, **SIZES, cache_dir=tmp_path)
    prepare(**(dict(corpus=CORPUS, **SIZES) | changes), cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def damage_by_flipping(entry):
    content = bytearray((entry / "train.src_ids.npy").read_bytes())
    content[-1] ^= 1
    (entry / "train.src_ids.npy").write_bytes(content)


def damage_by_truncating(entry):
    file = entry / "dev.tgt_ids.npy"
    file.write_bytes(file.read_bytes()[:-5])


def damage_by_removing(entry):
    (entry / "tokenizer.json").unlink()


def damage_the_table(entry):
    (entry / "meta.json").write_text("[]")


@pytest.mark.parametrize(
    "damage", [damage_by_flipping, damage_by_truncating, damage_by_removing, damage_the_table]
)
def test_a_damaged_entry_is_built_again_with_a_warning(tmp_path, caplog, damage):
    first = prepare(CORPUS, **SIZES, cache_dir=tmp_path)
    [entry] = tmp_path.iterdir()
    damage(entry)
    assert_same(prepare(CORPUS, **SIZES, cache_dir=tmp_path), first)
    assert "damaged" in caplog.text
    caplog.clear()
    assert_same(prepare(CORPUS, **SIZES, cache_dir=tmp_path), first)
    assert "damaged" not in caplog.text
    assert list(tmp_path.iterdir()) == [entry]


def test_runs_that_start_together_share_one_whole_entry(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: prepare(CORPUS, **SIZES, cache_dir=tmp_path), range(8)))
    for run in runs[1:]:
        assert_same(runs[0], run)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_cache_that_cannot_be_written_does_not_stop_the_run(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    prepared = prepare(CORPUS, **SIZES, cache_dir=tmp_path / "file")
    assert len(prepared.train) == 50
    assert "cannot cache" in caplog.text


def test_long_pairs_leave_training_and_are_counted(tmp_path, caplog):
    full = prepare(CORPUS, **SIZES, cache_dir=tmp_path).train
    limit = 4
    keep = np.maximum(full.src_lengths, full.tgt_lengths) <= limit
    prepared = prepare(CORPUS, vocab_size=300, max_len=limit, cache_dir=tmp_path)
    kept = [text for text, k in zip(CORPUS.train.src, keep, strict=True) if k]
    assert 0 < len(kept) < 50
    assert sentences(prepared, prepared.train.src_ids, prepared.train.src_offsets) == kept
    assert prepared.dropped == 50 - len(kept)
    assert f"dropped {50 - len(kept)} of 50" in caplog.text


def test_long_evaluation_pairs_are_cut_with_a_warning_and_never_dropped(tmp_path, caplog):
    full = prepare(CORPUS, **SIZES, cache_dir=tmp_path).dev
    prepared = prepare(CORPUS, vocab_size=300, max_len=4, cache_dir=tmp_path)
    dev = prepared.dev
    assert len(dev) == len(full)
    assert dev.src_lengths.max() == dev.tgt_lengths.max() == 4
    cut = int((np.maximum(full.src_lengths, full.tgt_lengths) > 4).sum())
    assert prepared.truncated["dev"] == cut > 0
    assert f"dev: cut {cut} pairs" in caplog.text
    for i, sentence in enumerate(sentences(prepared, dev.src_ids, dev.src_offsets)):
        assert CORPUS.dev.src[i].startswith(sentence)


def test_cutting_keeps_the_beginning_and_the_end_symbol(tmp_path):
    tokenizer = prepare(CORPUS, **SIZES, cache_dir=tmp_path).tokenizer
    data = encode_bitext(tokenizer, ["abcdef", "", "ab"], ["a", "abcdef", ""])
    cut, count = truncate(data, 4)
    texts = [decode(tokenizer, np.split(cut.src_ids, cut.src_offsets[1:-1]))]
    texts += [decode(tokenizer, np.split(cut.tgt_ids, cut.tgt_offsets[1:-1]))]
    assert texts == [["abc", "", "ab"], ["a", "abc", ""]]
    assert cut.src_lengths.tolist() == [4, 1, 3]
    assert count == 2


def test_empty_evaluation_sentences_keep_their_place(tmp_path):
    corpus = replace(CORPUS, test={"a": Bitext("a", ["", "one", ""], ["ONE", "", ""])})
    data = prepare(corpus, **SIZES, cache_dir=tmp_path).test["a"]
    assert data.src_lengths.tolist()[::2] == [1, 1]
    assert data.tgt_lengths.tolist()[1:] == [1, 1]


def test_nothing_left_to_train_on_is_refused(tmp_path):
    long = replace(CORPUS, train=Bitext("train", ["one two three"] * 9, ["eins zwei"] * 9))
    with pytest.raises(UserError, match=r"data\.max_len=2"):
        prepare(long, vocab_size=259, max_len=2, cache_dir=tmp_path)


def test_a_vocabulary_beyond_the_data_is_refused_and_nothing_cached(tmp_path):
    with pytest.raises(UserError, match=r"data\.vocab_size=9999"):
        prepare(CORPUS, vocab_size=9999, max_len=20, cache_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []
