import gzip
import inspect
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from normlab.errors import UserError
from normlab.tasks.translation import corpora

CONF = Path(__file__).parents[3] / "conf" / "data"


def write(folder: Path, **files: str | bytes) -> None:
    """Write `train_en="…"` as folder/train.en."""
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode("utf-8")
        (folder / name.replace("_", ".")).write_bytes(content)


def small_files(folder: Path) -> None:
    write(folder, train_en="a\nb\n", train_de="A\nB\n", dev_en="c\n", dev_de="C\n")
    write(folder, test_en="d\n", test_de="D\n")


def read(folder: Path, **changes) -> corpora.Corpus:
    choices = dict(train="train", dev="dev", test=["test"], src="en", tgt="de")
    return corpora.text(dir=str(folder), **(choices | changes))


def test_text_pairs_line_i_of_one_file_with_line_i_of_the_other(tmp_path):
    small_files(tmp_path)
    corpus = read(tmp_path)
    assert corpus == corpora.Corpus(
        corpora.Bitext("train", ["a", "b"], ["A", "B"]),
        corpora.Bitext("dev", ["c"], ["C"]),
        {"test": corpora.Bitext("test", ["d"], ["D"])},
    )


def test_text_direction_is_chosen_by_src_and_tgt(tmp_path):
    small_files(tmp_path)
    corpus = read(tmp_path, src="de", tgt="en")
    assert (corpus.train.src, corpus.train.tgt) == (["A", "B"], ["a", "b"])


def test_text_reads_gzip_like_plain(tmp_path):
    small_files(tmp_path)
    plain = read(tmp_path)
    for file in list(tmp_path.iterdir()):
        Path(f"{file}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    assert read(tmp_path) == plain


def test_a_relative_directory_starts_where_the_command_was_called(tmp_path, monkeypatch):
    small_files(tmp_path)
    monkeypatch.chdir(tmp_path.parent)
    assert read(Path(tmp_path.name)) == read(tmp_path)


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r", "\t"])
def test_only_a_line_feed_ends_a_line(tmp_path, inside):
    small_files(tmp_path)
    write(tmp_path, dev_en=f"x{inside}y\nz\n", dev_de="X\nZ\n")
    assert read(tmp_path).dev.src == [f"x{inside}y", "z"]


def test_windows_line_ends_and_byte_order_mark_are_not_text(tmp_path):
    small_files(tmp_path)
    write(tmp_path, dev_en="\ufeffx\r\ny\r\n", dev_de="X\nY")
    dev = read(tmp_path).dev
    assert (dev.src, dev.tgt) == (["x", "y"], ["X", "Y"])


def test_empty_training_lines_are_dropped_counted_and_located(tmp_path, caplog):
    small_files(tmp_path)
    write(tmp_path, train_en="a\n\nc\nd\n", train_de="A\nB\n \t\nD\n")
    with caplog.at_level(logging.WARNING):
        train = read(tmp_path).train
    assert (train.src, train.tgt) == (["a", "d"], ["A", "D"])
    [record] = caplog.records
    assert "dropped 2 of 4" in record.getMessage()
    assert "line 2" in record.getMessage()


def test_empty_evaluation_lines_stay(tmp_path, caplog):
    small_files(tmp_path)
    write(tmp_path, dev_en="\nx\n\n", dev_de="\n\nX\n", test_en="\n", test_de="\n")
    corpus = read(tmp_path)
    assert (corpus.dev.src, corpus.dev.tgt) == (["", "x", ""], ["", "", "X"])
    assert corpus.test["test"].src == [""]
    assert not caplog.records


def test_different_line_counts_name_both_files_and_counts(tmp_path):
    small_files(tmp_path)
    write(tmp_path, dev_en="x\ny\n")
    with pytest.raises(UserError, match=r"dev\.en has 2 lines but .*dev\.de has 1"):
        read(tmp_path)


def test_bytes_that_are_not_utf8_name_file_and_line(tmp_path):
    small_files(tmp_path)
    write(tmp_path, train_de="A\nB\nKöln\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"train\.de line 3 is not UTF-8 \(byte 0xf6\)"):
        read(tmp_path)


def test_a_missing_file_names_both_paths_that_were_tried(tmp_path):
    small_files(tmp_path)
    with pytest.raises(UserError, match=r"val\.en nor .*val\.en\.gz exists"):
        read(tmp_path, dev="val")


def test_a_truncated_gzip_file_is_named(tmp_path):
    small_files(tmp_path)
    (tmp_path / "dev.en").unlink()
    (tmp_path / "dev.en.gz").write_bytes(gzip.compress(b"x" * 1000)[:-12])
    with pytest.raises(UserError, match=r"cannot read .*dev\.en\.gz"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(src="de"), "both de"),
        (dict(test="test"), r"test=test must be a list of names: write test=\[test\]"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused(tmp_path, changes, message):
    small_files(tmp_path)
    with pytest.raises(UserError, match=message):
        read(tmp_path, **changes)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere is not a directory"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_files_without_a_training_pair_are_refused(tmp_path, content):
    small_files(tmp_path)
    write(tmp_path, train_en=content, train_de=content)
    with pytest.raises(UserError, match="train"):
        read(tmp_path)


def test_grammar_directions_are_mirror_images():
    sizes = dict(seed=3, train=40, dev=5, test=5)
    there = corpora.grammar(**sizes)
    back = corpora.grammar(**sizes, src="de", tgt="en")
    assert (there.train.src, there.train.tgt) == (back.train.tgt, back.train.src)
    assert [len(there.train.src), len(there.dev.src), len(there.test["test"].src)] == [40, 5, 5]


def test_grammar_refuses_a_language_it_does_not_know():
    with pytest.raises(UserError, match=r"not src=en tgt=fr"):
        corpora.grammar(seed=3, train=40, dev=5, test=5, src="en", tgt="fr")


def test_grammar_refuses_an_empty_split():
    with pytest.raises(UserError, match=r"^dev=0 sentence pairs"):
        corpora.grammar(seed=3, train=40, dev=0, test=5)


# --- the Hugging Face hub: local directories in the formats of wmt/wmt14 and bentrevett/multi30k


@pytest.fixture(autouse=True)
def own_hub_cache(tmp_path_factory, monkeypatch):
    import datasets

    cache = str(tmp_path_factory.mktemp("hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", cache)


def write_wmt(folder: Path) -> None:
    (folder / "de-en").mkdir(parents=True)
    rows = {
        "train": [{"de": "Eins", "en": "One"}, {"de": "", "en": "Two"}, {"de": "3\r\n", "en": "3"}],
        "validation": [{"de": "Vier\nFünf", "en": "Four\rFive"}],
        "test": [{"de": None, "en": "Six"}],
    }
    for split, pairs in rows.items():
        file = folder / "de-en" / f"{split}-00000-of-00001.parquet"
        pq.write_table(pa.table({"translation": pairs}), file)
    configs = [
        {"split": split, "path": f"de-en/{split}-*"} for split in ("train", "validation", "test")
    ]
    info = {
        "config_name": "de-en",
        "features": [
            {"name": "translation", "dtype": {"translation": {"languages": ["de", "en"]}}}
        ],
    }
    card = {"dataset_info": [info], "configs": [{"config_name": "de-en", "data_files": configs}]}
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n")


def write_multi30k(folder: Path) -> None:
    for split in ("train", "val", "test"):
        rows = [{"en": f"{split} {i}", "de": f"{split.upper()} {i}"} for i in range(3)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")


def from_conf(name: str, **changes) -> corpora.Corpus:
    """Load what conf/data/<name>.yaml describes."""
    values = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    names = inspect.signature(corpora.hub).parameters  # the file's other keys are not for it
    return corpora.hub(**({name: values[name] for name in names} | changes))


def test_hub_reads_the_layout_of_wmt14(tmp_path, caplog):
    write_wmt(tmp_path)
    corpus = from_conf("wmt14", path=str(tmp_path))
    assert (corpus.train.src, corpus.train.tgt) == (["One", "3"], ["Eins", "3 "])
    assert (corpus.dev.src, corpus.dev.tgt) == (["Four Five"], ["Vier Fünf"])
    assert (corpus.test["test"].src, corpus.test["test"].tgt) == (["Six"], [""])
    assert "dropped 1 of 3" in caplog.text
    assert "row 2" in caplog.text


def test_hub_reads_the_layout_of_multi30k_in_either_direction(tmp_path):
    write_multi30k(tmp_path)
    corpus = from_conf("multi30k", path=str(tmp_path), src="de", tgt="en")
    assert corpus.train.src == ["TRAIN 0", "TRAIN 1", "TRAIN 2"]
    assert corpus.dev.tgt == ["val 0", "val 1", "val 2"]
    assert corpus.test["test"].src == ["TEST 0", "TEST 1", "TEST 2"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(dev="dev"), 'Unknown split "dev"'),
        (dict(config="fr-en"), "'fr-en' not found"),
        (dict(tgt="fr"), r"no column fr but en, de"),
        (dict(format="pairs"), r"format=pairs is unknown"),
    ],
)
def test_hub_mistakes_are_one_line(tmp_path, changes, message):
    write_multi30k(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        from_conf("multi30k", path=str(tmp_path), **changes)
    assert "\n" not in str(caught.value)


OFFLINE = """
import logging, sys
from normlab.tasks.translation.corpora import hub
from normlab.errors import UserError
logging.basicConfig(level=logging.WARNING)
try:
    corpus = hub(path="some/pairs", config=None, revision="{revision}", train="train",
                 dev="validation", test=["test"], src="en", tgt="de", format="columns")
    print(corpus.test["test"].src)
except UserError as error:
    print(error)
"""


def run_offline(home: Path, revision: str) -> subprocess.CompletedProcess:
    # A process of its own: `datasets` reads these variables when it is imported.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    return subprocess.run(
        [sys.executable, "-c", OFFLINE.format(revision=revision)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip


@pytest.mark.long
def test_without_network_and_cache_one_line_says_what_to_do(tmp_path):
    lines = run_offline(tmp_path, "main").stdout.splitlines()
    assert len(lines) == 1
    assert "some/pairs is not cached" in lines[0]
    assert "data=text" in lines[0]


@pytest.mark.slow
def test_without_network_the_cache_is_read_and_another_revision_reported(tmp_path):
    import datasets

    source = tmp_path / "source"
    source.mkdir()
    write_multi30k(source)
    pinned = "a" * 40
    built = Path(datasets.load_dataset(str(source), split="test").cache_files[0]["filename"]).parent
    cached = tmp_path / "home" / "datasets" / "some___pairs" / "default" / "0.0.0" / pinned
    cached.parent.mkdir(parents=True)
    built.rename(cached)
    for file in cached.glob("*.arrow"):
        file.rename(cached / f"pairs-{file.name.rsplit('-', 1)[1]}")
    info = json.loads((cached / "dataset_info.json").read_text())
    (cached / "dataset_info.json").write_text(json.dumps(info | {"dataset_name": "pairs"}))

    same = run_offline(tmp_path / "home", pinned)
    assert same.stdout == "['test 0', 'test 1', 'test 2']\n"
    assert "another revision" not in same.stderr
    other = run_offline(tmp_path / "home", "b" * 40)
    assert other.stdout == same.stdout
    assert "another revision" in other.stderr
