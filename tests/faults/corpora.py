"""Texts that a corpus should not hold, and data that change under a run."""

import json
import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from faults.children import Child, say, told, train
from faults.outcomes import LOST, SURVIVED, WRONG, Outcome, fault
from faults.scenes import RUN, refused

LANGUAGES = ("en", "de")
Sets = dict[str, bytes]  # file name -> content

OVERRIDES = (
    *(o for o in RUN if not o.startswith(("data.", "trainer."))),
    "data=text", "data.dev=dev", "data.test=[test]", "data.vocab_size=264", "data.max_length=40",
    "data.batch_tokens=256", "trainer.max_steps=2", "trainer.log_every=1",
)  # fmt: skip


def plain() -> Sets:
    """Returns the files of a small corpus."""
    words = ["alpha", "beta", "gamma", "delta"]
    files = {}
    for name, size in (("train", 60), ("dev", 3), ("test", 3)):
        for language in LANGUAGES:
            lines = [
                f"{name} {language} {words[i % 4]} {words[i // 4 % 4]} {i}\n" for i in range(size)
            ]
            files[f"{name}.{language}"] = "".join(lines).encode()
    return files


def put(text: bytes, names: tuple[str, ...] = ("train", "dev", "test")) -> Callable[[Sets], None]:
    """Returns what puts `text` into the second line of both sides of some sets."""

    def change(files: Sets) -> None:
        for name in names:
            for language in LANGUAGES:
                lines = files[f"{name}.{language}"].split(b"\n")
                lines[1] = lines[1] + text
                files[f"{name}.{language}"] = b"\n".join(lines)

    return change


def replace(**contents: bytes) -> Callable[[Sets], None]:
    """Returns what replaces files: train_en=b"" is train.en."""
    return lambda files: files.update({k.replace("_", "."): v for k, v in contents.items()})


def crlf(files: Sets) -> None:
    """Ends every line as Windows does, and puts a byte-order mark before the first."""
    for name, content in files.items():
        files[name] = b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n")


def shorter(files: Sets) -> None:
    """Takes the last line of one side."""
    files["train.de"] = files["train.de"][: files["train.de"].rstrip().rindex(b"\n") + 1]


def leaked(files: Sets) -> None:
    """Makes the dev set a part of the training set."""
    for language in LANGUAGES:
        files[f"dev.{language}"] = b"".join(files[f"train.{language}"].splitlines(True)[:3])


CASES: dict[str, Callable[[Sets], None]] = {
    "a NUL character": put(b" a\0b"),
    "invalid UTF-8 in train": put(b" \xff\xfe", ("train",)),
    "invalid UTF-8 in test": put(b" \xc3", ("test",)),
    "CRLF and a byte-order mark": crlf,
    "U+2028 and U+0085": put(" a\u2028b\u0085c\u2029d\x0ce\x1cf".encode()),
    "carriage returns within lines": put(b" a\rb"),
    "a line of 1 MB": put(b" x" * 500_000),
    "an empty file": replace(train_en=b"", train_de=b""),
    "an empty test set": replace(test_en=b"", test_de=b""),
    "one side empty": replace(train_de=b""),
    "one line": replace(train_en=b"one\n", train_de=b"eins\n"),
    "only empty lines": replace(train_en=b"\n" * 60, train_de=b"\n" * 60),
    "empty lines in the test set": replace(test_en=b"\n\na\n", test_de=b"b\n\n\n"),
    "control tokens": put(b" </s> <pad> <s> </s>"),
    "control tokens alone": replace(dev_en=b"</s>\n<s>\n<pad>\n", dev_de=b"</s>\n<s>\n<pad>\n"),
    "different line counts": shorter,
    "dev sentences in train": leaked,
    "no line feed at the end": lambda files: files.update(
        {name: content.rstrip(b"\n") for name, content in files.items()}
    ),
    "characters outside the BMP, combining and right to left": put(
        " 😀 e\u0301 \u202eabc \ud7ff\U0010ffff".encode()
    ),
}


@fault("a corpus with hostile text", full=len(CASES), short=2)
def hostile(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Trains on data=text with such files; outputs stay line by line, references as they were."""
    for name in rng.sample(list(CASES), tries):
        place = folder / re.sub(r"[^\w]+", "-", name)
        files = plain()
        CASES[name](files)
        write(place, files)
        child = begin(place)
        code = child.wait()
        if code != 0:
            yield refused(child, code, name)
            continue
        problem = misaligned(place, files, child)
        yield Outcome(WRONG if problem else SURVIVED, f"{name}: {problem}")


def write(place: Path, files: Sets) -> None:
    """Writes the files of a corpus."""
    (place / "data").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / "data" / name).write_bytes(content)


def begin(place: Path, *overrides: str) -> Child:
    """Starts train.py on the corpus of `place`."""
    where = (f"data.dir={place / 'data'}", f"data.cache_dir={place / 'cache'}")
    return train(place / "run", [*OVERRIDES, *where, *overrides])


def lines_of(content: bytes) -> list[str]:
    """Returns the lines as the documentation of data=text has them."""
    lines = content.decode("utf-8").removeprefix("\ufeff").split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def misaligned(place: Path, files: Sets, child: Child) -> str:
    """Returns what is wrong with the outputs, "" when nothing is."""
    references = (place / "run/references/test.txt").read_bytes().decode("utf-8")
    hypotheses = (place / "run/hypotheses/test.txt").read_bytes().decode("utf-8")
    wanted = lines_of(files["test.de"])
    if references.split("\n")[:-1] != wanted:
        return "the references are not the test set's lines"
    if hypotheses.count("\n") != len(wanted):
        return "another number of hypotheses"
    found = Child(partial(_encode, place), place / "encode.log")
    if found.wait() != 0 or told(found) is not True:
        return f"text does not survive the subwords: {found.output()[-300:]}"
    if "dev-sentences" in place.name:
        contents = json.loads((place / "run/summary.json").read_text("utf-8"))["contents"]
        if contents["dev"]["in_train"] != 3 or "training pairs too" not in child.output():
            return "nobody said that dev is part of train"
    return ""


def _encode(place: Path) -> None:
    """Says whether every line of the test set is the same after its subwords."""
    from normlab.tasks.translation.tokenizer import EOS, decode, encode, load_tokenizer

    tokenizer = load_tokenizer(place / "run/tokenizer.json")
    lines = lines_of((place / "data/test.en").read_bytes())
    ids = [[*sentence, EOS] for sentence in encode(tokenizer, lines)]
    special = any(i < 3 for sentence in ids for i in sentence[:-1])
    say(not special and decode(tokenizer, ids) == lines)


@fault("data changed between start and resume", full=6, short=1)
def changed(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Changes one set after a run; a longer one is refused, and goes on once it is restored."""
    sets = ["train.en", "train.de", "dev.en", "dev.de", "test.en", "test.de"]
    for name in rng.sample(sets, tries):
        place = folder / name
        files = plain()
        write(place, files)
        if begin(place).wait() != 0:
            yield Outcome(LOST, "the run itself failed")
            continue
        write(place, {name: files[name].replace(b"beta", b"Beta", 1)})
        longer = begin(place, "trainer.max_steps=4")
        code = longer.wait()
        if code == 0:
            yield Outcome(WRONG, f"{name} has changed and nobody said so")
            continue
        outcome = refused(longer, code, name)
        write(place, files)
        again = begin(place, "trainer.max_steps=4").wait()
        yield outcome if again == 0 else Outcome(LOST, f"{name} restored: exit code {again}")
