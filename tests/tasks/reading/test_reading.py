"""Cloze questions: published files, our own, and markers that mean nothing from one to the next."""

import numpy as np
import pytest

from normlab.errors import UserError
from normlab.tasks.reading.encoding import NOT_THERE, collate, encode, vocabulary_of
from normlab.tasks.reading.sources import (
    ENTITY,
    PLACEHOLDER,
    Question,
    cloze,
    files,
    most_frequent_error,
    nearest_sentences,
)
from normlab.tasks.reading.task import Reading

PUBLISHED = """http://web.archive.org/some-address

( @entity1 ) @entity3 won the game . nobody saw it . @entity5 watched @entity3 on television !

@placeholder won again , says @entity5

@entity3

@entity1:CNN
@entity3:A Name
@entity5:Another
"""
QUESTION = Question(
    ["@entity7", "met", "@entity2", ".", "@entity7", "left", "."],
    ["@placeholder", "left"],
    "@entity7",
)


@pytest.fixture
def folder(tmp_path):
    for name in ("training", "validation", "test"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.question").write_text(PUBLISHED)
    return tmp_path


def test_published_files_are_read_as_they_are(folder):
    questions = files(dir=str(folder), sentences=None)
    question = questions.train[0]
    assert question.document[:4] == ["(", "@entity1", ")", "@entity3"]
    assert question.query == ["@placeholder", "won", "again", ",", "says", "@entity5"]
    assert question.answer == "@entity3"


def test_only_the_sentences_most_like_the_query_are_kept(folder):
    question = files(dir=str(folder), sentences=1).test[0]
    assert question.document == ["(", "@entity1", ")", "@entity3", "won", "the", "game", "."]
    document = ["a", "b", ".", "c", ".", "a", "d", "!", "e"]
    assert nearest_sentences(document, ["a", "d", "."], 2) == ["a", "b", ".", "a", "d", "!"]
    assert nearest_sentences(document, ["c"], 9) == document


def test_training_questions_that_lost_their_answer_are_left_out(folder):
    lost = PUBLISHED.replace("\n@entity3\n", "\n@entity9\n")
    for name in ("training", "test"):
        (folder / name / "b.question").write_text(lost)
    questions = files(dir=str(folder), sentences=1)
    assert (len(questions.train), len(questions.test)) == (1, 2)
    words = vocabulary_of(questions.train, 50)
    assert encode(questions.test[1], words, 99).answer == NOT_THERE


@pytest.mark.parametrize("damage", ["@placeholder", "\n\n", "@entity3\n\n"])
def test_a_file_that_is_no_question_is_named(folder, damage):
    (folder / "test" / "a.question").write_text(PUBLISHED.replace(damage, "x"))
    with pytest.raises(UserError, match=r"a\.question is no question"):
        files(dir=str(folder), sentences=4)
    with pytest.raises(UserError, match="holds no .question files"):
        files(dir=str(folder / "test"), sentences=4)


def test_our_questions_have_an_answer_that_frequency_does_not_give():
    questions = cloze(seed=1, train=150, dev=20, test=30, sentences=4, dropped=0.2)
    again = cloze(seed=1, train=150, dev=20, test=30, sentences=4, dropped=0.2)
    assert questions == again
    for question in questions.train:
        assert question.query.count(PLACEHOLDER) >= 1
        assert question.answer in question.document and question.answer not in question.query
        assert len({w for w in question.document if ENTITY.fullmatch(w)}) >= 4
    assert 60 < most_frequent_error(questions.train) < 90
    documents = {" ".join(q.document) for part in vars(questions).values() for q in part}
    assert len(documents) == 200


def test_markers_change_from_epoch_to_epoch_and_keep_the_question():
    words = vocabulary_of([QUESTION], 50)
    encoded = encode(QUESTION, words, 99)
    assert (encoded.entities, encoded.answer) == (2, 0)
    seen = set()
    for epoch in range(30):
        batch = collate([encoded], np.array([0]), len(words), 5, [1, epoch])
        document, answer = batch.document[0].tolist(), batch.answers.item()
        assert document[0] == document[4] == len(words) + answer != document[2]
        assert document[2] >= len(words) and document[1] < len(words)
        assert batch.query.tolist() == [words.encode(QUESTION.query).tolist()]
        seen.add(answer)
    assert seen == set(range(5))


def test_most_frequent_baseline():
    other = QUESTION._replace(answer="@entity2")
    assert most_frequent_error([QUESTION, other, other, other]) == 75


def test_counting_shared_words_answers_nearly_every_cloze_question():
    """The 0.1 % of experiments/table6: one test question in a thousand."""
    questions = cloze(seed=1, train=8000, dev=500, test=1000, sentences=3, dropped=0.2)
    wrong = 0
    for question in questions.test:
        nearest = nearest_sentences(question.document, question.query, 1)
        entities = [w for w in nearest if ENTITY.fullmatch(w) and w not in question.query]
        wrong += not entities or entities[0] != question.answer
    assert wrong == 1


def test_dev_markers_do_not_depend_on_the_runs_seed():
    questions = cloze(seed=1, train=20, dev=6, test=6, sentences=2, dropped=0.0)
    settings = {"batch_size": 4, "vocab_size": 500, "max_length": 99}
    one, other = (Reading(questions, seed=seed, **settings) for seed in (1, 2))
    assert one._in_order("dev")[0]().document.equal(other._in_order("dev")[0]().document)
    assert not one.batches(0)[0]().document.equal(other.batches(0)[0]().document)
