"""Cloze questions: CNN and Daily Mail's files as they were published, or our own.

Each function is the target of one kind of file in `conf/data/` and returns all `Questions`. A
document and a query are words, of which `@entity<n>` stand for names and `@placeholder` for the gap
in the query; the answer is one of the document's entities.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from normlab.errors import UserError
from normlab.tasks import words
from normlab.tasks.translation.grammar import distinct
from normlab.tasks.translation.grammar.lexicon import NAMES
from normlab.tasks.translation.grammar.sentences import Rng, sentence
from normlab.types import Count, Fraction, Seed

ENTITY = re.compile(r"@entity\d+")
PLACEHOLDER = "@placeholder"
ENDS = {".", "!", "?"}


class Question(NamedTuple):
    """One question about one document."""

    document: list[str]
    query: list[str]
    answer: str


@dataclass(frozen=True)
class Questions:
    """A train, a dev and a test set."""

    train: list[Question]
    dev: list[Question]
    test: list[Question]


def files(*, dir: str, sentences: Count | None) -> Questions:
    """Returns the questions in `dir`/{training,validation,test}/*.question (Hermann et al. 2015).

    A file is an address, the document, the query, the answer and the entities' names, with an empty
    line between each. With `sentences` only so many of the document are kept (`nearest_sentences`).
    """
    folder = Path(dir).expanduser()

    def questions(name: str) -> list[Question]:
        paths = sorted((folder / name).glob("*.question"))
        if not paths:
            raise UserError(f"{folder / name} holds no .question files: dir={dir} must be theirs.")
        found = (read_question(path) for path in paths)
        shorter = (_shortened(each, sentences) for each in found)
        # What was cut away may have held the answer; such a question cannot be learned from, and
        # counts as wrong where it is asked.
        return [each for each in shorter if name != "training" or each.answer in each.document]

    return Questions(questions("training"), questions("validation"), questions("test"))


def read_question(path: Path) -> Question:
    """Returns the question in a published file; raises UserError for any other file."""
    try:
        parts = path.read_text(encoding="utf-8").split("\n\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path} ({error}): check the file.") from error
    if len(parts) < 4 or not ENTITY.fullmatch(parts[3].strip()) or PLACEHOLDER not in parts[2]:
        raise UserError(
            f"{path} is no question: it must hold an address, a document, a query with "
            f"{PLACEHOLDER} and an answer like @entity3, an empty line between each."
        )
    return Question(parts[1].split(), parts[2].split(), parts[3].strip())


def nearest_sentences(document: list[str], query: list[str], count: int) -> list[str]:
    """Returns the `count` sentences of `document` with most words of `query`, in their order.

    Words count once, marks do not; the earlier one of two equals is kept. This is our reading of
    "the 4 most relevant sentences by string matching" (Cooijmans et al. 2016).
    """
    wanted = {word for word in query if word[0].isalnum() or word.startswith("@entity")}
    found: list[list[str]] = [[]]
    for word in document:
        found[-1].append(word)
        if word in ENDS:
            found.append([])
    shared = [len(wanted & set(sentence)) for sentence in found]
    best = sorted(range(len(found)), key=lambda i: -shared[i])[:count]
    return [word for i in sorted(best) for word in found[i]]


def cloze(
    *, seed: Seed, train: Count, dev: Count, test: Count, sentences: Count, dropped: Fraction
) -> Questions:
    """Returns questions made of the embedded grammar; `train`, `dev` and `test` are numbers.

    A document is `sentences` sentences that name somebody; a name is another entity in each. The
    query is one of the sentences, with its first name as the gap and every other word left out with
    probability `dropped`. Entities come about equally often, so that guessing the most frequent one
    is little better than chance. What is to be learned is to find the sentence that the query is
    made of, which shares most words with it: a rule that counts them answers nearly all.
    Documents share no sentence.
    """
    if sentences < 2:
        raise UserError(f"sentences={sentences} must be 2 or more: one to find among others.")
    rng = np.random.default_rng(seed)
    source = Rng(seed)
    count = train + dev + test

    def named() -> tuple[str, str]:
        pair = sentence(source)
        while not set(words.TOKEN.findall(pair[0])) & set(NAMES):
            pair = sentence(source)
        return pair

    english = [pair[0] for pair in distinct(named, count * sentences)]
    questions = [
        _cloze(english[i : i + sentences], dropped, rng) for i in range(0, len(english), sentences)
    ]
    return Questions(questions[:train], questions[train : train + dev], questions[train + dev :])


def _cloze(sentences: list[str], dropped: float, rng: np.random.Generator) -> Question:
    """Returns a question about sentences with names in them."""
    tokens = [words.TOKEN.findall(text) for text in sentences]
    asked = int(rng.integers(len(tokens)))
    entities: dict[tuple[int, str], str] = {}  # (sentence, name) -> marker
    for i, text in enumerate(tokens):
        for name in sorted(set(text) & set(NAMES)):
            entities[i, name] = f"@entity{len(entities)}"
    marked = [
        [entities.get((i, word), word.lower()) for word in text] for i, text in enumerate(tokens)
    ]
    answer = next(word for word in marked[asked] if ENTITY.fullmatch(word))
    kept = rng.random(len(tokens[asked])) >= dropped
    query = [
        PLACEHOLDER if word == answer else word
        for word, keep in zip(marked[asked], kept, strict=True)
        if keep or word == answer
    ]
    return Question([word for text in marked for word in text], query, answer)


def _shortened(question: Question, sentences: int | None) -> Question:
    if sentences is None:
        return question
    nearest = nearest_sentences(question.document, question.query, sentences)
    return question._replace(document=nearest)


def most_frequent_error(questions: Iterable[Question]) -> float:
    """Returns the error, in percent, of always naming the document's most frequent entity.

    Of several, the one that comes first.
    """
    wrong = []
    for question in questions:
        entities = [word for word in question.document if ENTITY.fullmatch(word)]
        guess = max(dict.fromkeys(entities), key=entities.count) if entities else None
        wrong.append(guess != question.answer)
    return 100 * sum(wrong) / len(wrong)
