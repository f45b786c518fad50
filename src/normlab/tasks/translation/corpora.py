"""Sentence pairs from an embedded grammar, from text files, or from the Hugging Face hub.

Each function is the target of one kind of file in `conf/data/` and returns a whole `Corpus`.
"""

import gzip
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from normlab.errors import UserError
from normlab.tasks.hub import load_splits
from normlab.tasks.translation.tokenised import looks_tokenised
from normlab.types import NameList

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bitext:
    """Parallel sentences: `src[i]` translates to `tgt[i]`; a sentence holds no line feed."""

    name: str
    src: list[str]
    tgt: list[str]


@dataclass(frozen=True)
class Corpus:
    """A translation task: a train and a dev set, and test sets by name."""

    train: Bitext
    dev: Bitext
    test: dict[str, Bitext]


def grammar(
    *, seed: int, train: int, dev: int, test: int, src: str = "en", tgt: str = "de"
) -> Corpus:
    """Return a `Corpus` of the embedded English-German grammar; `train`, `dev`, `test` are sizes.

    The one test set is called "test". No pair is in two splits.
    """
    if {src, tgt} != {"en", "de"}:
        raise UserError(
            f"the grammar knows English and German only, not src={src} tgt={tgt}: "
            "set one to en and the other to de."
        )
    for name, size in (("train", train), ("dev", dev), ("test", test)):
        if size < 1:
            raise UserError(f"{name}={size} sentence pairs are too few: set it to 1 or more.")

    from normlab.tasks.translation.grammar import (
        splits,  # its lexicon is read on import, for this only
    )

    try:
        pairs_of = splits(train, dev, test, seed)
    except ValueError as error:
        raise UserError(f"the grammar: {error}.") from error

    def bitext(name: str) -> Bitext:
        english = [pair[0] for pair in pairs_of[name]]
        german = [pair[1] for pair in pairs_of[name]]
        return Bitext(name, english, german) if src == "en" else Bitext(name, german, english)

    return Corpus(bitext("train"), bitext("dev"), {"test": bitext("test")})


def text(*, dir: str, train: str, dev: str, test: NameList, src: str, tgt: str) -> Corpus:
    """Return the `Corpus` in the plain-text files `dir/<name>.<language>`, or the same with `.gz`.

    `train` and `dev` are file names without the language, `test` is a list of them. A relative
    `dir` starts at the directory the command was called in.

    A line ends at a line feed and nowhere else: U+2028, U+0085 and form feeds are text. One
    carriage return before the line feed and a byte-order mark at the start of a file are
    Windows' way of writing the same lines, and are removed.
    """
    _check_choices(src, tgt, test)
    folder = Path(dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"dir={dir} is not a directory: point it at your text files.")

    def bitext(name: str, key: str) -> Bitext:
        return Bitext(name, *text_pair(*(_find(folder, name, each, key) for each in (src, tgt))))

    pairs = _without_empty(bitext(train, "train"), where=str(folder / train), unit="line")
    for language, lines in ((src, pairs.src), (tgt, pairs.tgt)):
        if looks_tokenised(lines):
            log.warning(
                "%s.%s looks tokenised (entities, spaces before full stops): BLEU is meant for "
                "ordinary text, so score with `scripts/evaluate.py RUN --src FILE --ref FILE "
                "--detokenise %s`.",
                folder / train,
                language,
                tgt,
            )
            break
    return Corpus(
        pairs,
        bitext(dev, "dev"),
        {name: bitext(name, "test") for name in test},
    )


def text_pair(src_file: Path, tgt_file: Path) -> tuple[list[str], list[str]]:
    """Return the lines of two parallel files, plain or `.gz`, empty ones included.

    Raises UserError for a file that is missing, empty or not UTF-8, or different line counts.
    """
    src_lines, tgt_lines = read_lines(src_file), read_lines(tgt_file)
    if len(src_lines) != len(tgt_lines):
        raise UserError(
            f"{src_file} has {len(src_lines)} lines but {tgt_file} has {len(tgt_lines)}: "
            "line i of one must translate line i of the other."
        )
    if not src_lines:
        raise UserError(f"{src_file} has no lines: give at least one sentence pair.")
    return src_lines, tgt_lines


def hub(
    *,
    path: str,
    config: str | None,
    revision: str,
    train: str,
    dev: str,
    test: NameList,
    src: str,
    tgt: str,
    format: str,
) -> Corpus:
    """Return the `Corpus` in splits `train`, `dev` and `test` (a list) of a hub data set.

    `path`, `config` and `revision` are what `datasets.load_dataset` calls path, name and revision;
    a local directory of parquet or JSON files is a path too. `format` says how rows look:
    "translation" for one column `translation` of {language: text}, "columns" for one column a
    language. Line breaks inside a sentence become spaces and a missing text an empty one.
    `HF_HOME`, `HF_DATASETS_CACHE` and `HF_HUB_OFFLINE` are honoured by `datasets`.
    """
    _check_choices(src, tgt, test)
    columns = {
        "translation": (f"translation.{src}", f"translation.{tgt}"),
        "columns": (src, tgt),
    }.get(format)
    if columns is None:
        raise UserError(f"format={format} is unknown: use translation or columns.")
    names = [train, dev, *test]
    instead = "use data=text with files of your own"
    tables = load_splits(path, config, revision, names, instead)

    def bitext(name: str) -> Bitext:
        table = tables[name].flatten()  # {"translation": {"de": …}} -> "translation.de"
        if missing := [column for column in columns if column not in table.column_names]:
            raise UserError(
                f"{path} has no column {missing[0]} but {', '.join(table.column_names)}: "
                "check src, tgt and format."
            )
        src_lines, tgt_lines = ([_one_line(row) for row in table[column][:]] for column in columns)
        if not src_lines:
            raise UserError(f"split {name} of {path} is empty: choose another one.")
        return Bitext(name, src_lines, tgt_lines)

    return Corpus(
        _without_empty(bitext(train), where=f"{path} {train}", unit="row"),
        bitext(dev),
        {name: bitext(name) for name in test},
    )


def _check_choices(src: str, tgt: str, test: Sequence[str]) -> None:
    if src == tgt:
        raise UserError(f"src and tgt are both {src}: choose two languages.")
    if isinstance(test, str):
        raise UserError(f"test={test} must be a list of names: write test=[{test}].")
    if not test:
        raise UserError("test=[] names no test set: give at least one.")
    for name in test:
        if not name or Path(name).name != name:
            raise UserError(f"test={name} must be a plain name: outputs are stored under it.")
    if len(set(test)) < len(test):
        raise UserError(f"test={','.join(test)} names a test set twice.")


def _find(folder: Path, name: str, language: str, key: str) -> Path:
    plain = folder / f"{name}.{language}"
    zipped = folder / f"{name}.{language}.gz"
    for file in (plain, zipped):
        if file.is_file():
            return file
    raise UserError(
        f"neither {plain} nor {zipped} exists: {key}={name} names it. Give the name of yours, as "
        f"in {key}=mine for mine.{language}, and their languages with src= and tgt=."
    )


def read_lines(file: Path) -> list[str]:
    """Return the lines of a UTF-8 file, plain or `.gz`; raises UserError for any other."""
    try:
        content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {file} ({error}): check or replace the file.") from error
    return lines_of(content, str(file))


def lines_of(content: bytes, file: str) -> list[str]:
    """Return the lines of UTF-8 text as all that is translated or trained on is read.

    Raises UserError, with the name `file`, for any other text.
    """
    try:
        decoded = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{file} line {line} is not UTF-8 (byte 0x{content[error.start]:02x}): "
            "convert the file to UTF-8."
        ) from error
    # str.splitlines would also split at U+2028, U+0085 and others, and misalign the two sides.
    lines = decoded.split("\n")
    if lines[-1] == "":  # what follows the last line feed is no line
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def _one_line(sentence: str | None) -> str:
    if not sentence:
        return ""
    return sentence.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def _without_empty(bitext: Bitext, *, where: str, unit: str) -> Bitext:
    """Return the training pairs whose sides both hold text; evaluation sets are never thinned."""
    keep = [bool(s.strip() and t.strip()) for s, t in zip(bitext.src, bitext.tgt, strict=True)]
    dropped = len(keep) - sum(keep)
    if dropped == 0:
        return bitext
    if dropped == len(keep):
        raise UserError(f"every training pair of {where} has an empty side: check the files.")
    first = keep.index(False) + 1
    log.warning(
        "%s: dropped %d of %d training pairs with an empty side (first: %s %d)",
        where,
        dropped,
        len(keep),
        unit,
        first,
    )
    return Bitext(
        bitext.name,
        [s for s, k in zip(bitext.src, keep, strict=True) if k],
        [t for t, k in zip(bitext.tgt, keep, strict=True) if k],
    )
