"""An endless English-German parallel corpus from a small synchronous grammar, without a download.

Both sides of a sentence are built together: a noun phrase knows its English words and its German
nominative, accusative and dative; a clause keeps the German verb in pieces, so that the same clause
can become a main clause (verb second), a question (verb first) or a subordinate clause (verb last).
English fixes the German: tense, number and attachment are chosen so that no English sentence has
two translations here (hence no "you", no "sheep", no "read"), and a perfect model scores BLEU 100.

The modules build on each other: lexicon, phrases, clauses, choices, sentences.
"""

from collections.abc import Callable

from normlab.tasks.translation.grammar.sentences import Rng, sentence

LENGTHS = range(3, 26)  # words, on both sides
PATIENCE = 10_000  # draws in a row that may bring nothing new


def distinct(draw: Callable[[], tuple[str, str]], pairs: int) -> list[tuple[str, str]]:
    """The first `pairs` pairs drawn that repeat neither an English nor a German sentence."""
    if pairs < 1:
        raise ValueError(f"a corpus needs at least 1 sentence pair, {pairs} were asked for")
    found: list[tuple[str, str]] = []
    english_seen: set[str] = set()
    german_seen: set[str] = set()
    misses = 0
    while len(found) < pairs:
        english, german = draw()
        fits = all(text.count(" ") + 1 in LENGTHS for text in (english, german))
        if not fits or english in english_seen or german in german_seen:
            misses += 1
            if misses > PATIENCE:
                raise ValueError(
                    f"the grammar gave {len(found)} distinct sentence pairs, {pairs} were asked "
                    f"for, and {PATIENCE} further draws brought nothing new: ask for fewer"
                )
            continue
        misses = 0
        english_seen.add(english)
        german_seen.add(german)
        found.append((english, german))
    return found


def generate(pairs: int, seed: int) -> list[tuple[str, str]]:
    """`pairs` distinct (English, German) pairs; a longer request starts with the shorter one.

    Neither an English nor a German sentence occurs twice, so slices share nothing.
    """
    rng = Rng(seed)
    return distinct(lambda: sentence(rng), pairs)


def splits(train: int, dev: int, test: int, seed: int) -> dict[str, list[tuple[str, str]]]:
    """Disjoint train, dev and test pairs of the given sizes, slices of one corpus."""
    sizes = {"train": train, "dev": dev, "test": test}
    for part, size in sizes.items():
        if size < 1:
            raise ValueError(f"every split needs at least 1 sentence pair, {part} was given {size}")
    pairs = iter(generate(train + dev + test, seed))
    return {part: [next(pairs) for _ in range(size)] for part, size in sizes.items()}
