"""Tokenised text is noticed, ordinary text is not, and one becomes the other."""

import pytest

from normlab.errors import UserError
from normlab.tasks.translation import corpora
from normlab.tasks.translation.tokenised import detokenise, looks_tokenised

TOKENISED = ["Ein Hund &apos;s Haus , das steht .", "Er sagt : &quot; Ja &quot; ."]
ORDINARY = ["Ein Hund's Haus, das steht.", 'Er sagt: "Ja".']


def test_entities_and_spaces_before_stops_are_noticed():
    assert looks_tokenised(TOKENISED)
    assert not looks_tokenised(ORDINARY)
    assert not looks_tokenised(["Comment ça va ?", "« Bien », dit-elle : oui !"])  # French
    assert not looks_tokenised(["A .", *ORDINARY, *ORDINARY]) and not looks_tokenised([""])


def test_a_tokenised_corpus_is_said_once(tmp_path, caplog):
    for name in ("train", "val", "test"):
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text("\n".join(TOKENISED) + "\n")
    files = {"train": "train", "dev": "val", "test": ["test"], "src": "en", "tgt": "de"}
    corpora.text(dir=str(tmp_path), **files)
    assert caplog.text.count("looks tokenised") == 1 and "--detokenise de" in caplog.text


def test_it_becomes_ordinary_text():
    pytest.importorskip("sacremoses")
    assert detokenise(TOKENISED, "en") == ["Ein Hund's Haus, das steht.", 'Er sagt: "Ja".']


def test_without_sacremoses_the_fix_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    with pytest.raises(UserError, match=r"pip install 'normlab\[detokenise\]'"):
        detokenise(TOKENISED, "de")
