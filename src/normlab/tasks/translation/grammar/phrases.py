"""Determiners, pronouns, noun phrases and numbers: German agrees in gender, number and case."""

from typing import NamedTuple

from normlab.tasks.translation.grammar.lexicon import (
    NOTHING,
    PHRASES,
    VOWELS,
    Adjective,
    Noun,
    Phrase,
    entries,
    join,
)


def table(text: str) -> dict[str, list[str]]:
    """The endings (nominative, accusative, dative) by masculine, feminine, neuter and plural."""
    rows = [row.replace("-", "").split(" ") for row in text.split(", ")]
    return dict(zip("mfnp", rows, strict=True))


DER = table("der den dem, die die der, das das dem, die die den")
EIN = table("- en em, e e er, - - em, e e en")
DIESER = table("er en em, e e er, es es em, e e en")
FIXED = table("- - -, - - -, - - -, - - -")
WEAK = table("e en en, e e en, e e en, en en en")
MIXED = table("er en en, e e en, es es en, en en en")
STRONG = table("er en em, e e er, es es em, e e en")


class Determiner(NamedTuple):
    en: tuple[str, str]  # before a singular, before a plural
    de: str
    endings: dict[str, list[str]]
    adjective: dict[str, list[str]]  # the endings of an adjective that follows
    form: str = "definite"


DETERMINERS = {
    "the": Determiner(("the", "the"), "", DER, WEAK),
    "this": Determiner(("this", "these"), "dies", DIESER, WEAK),
    "a": Determiner(("a", ""), "ein", EIN, MIXED, "indefinite"),
    "bare": Determiner(("", ""), "", FIXED, STRONG, "indefinite"),
    "some": Determiner(("", "some"), "einig", DIESER, STRONG, "indefinite"),
    "many": Determiner(("", "many"), "viel", DIESER, STRONG, "indefinite"),
    "all": Determiner(("", "all"), "all", DIESER, WEAK, "universal"),
    "every": Determiner(("every", ""), "jed", DIESER, WEAK, "universal"),
    "no": Determiner(("no", "no"), "kein", EIN, MIXED, "none"),
    "any": Determiner(("a", "any"), "kein", EIN, MIXED, "negative"),  # under an English "not"
    "which": Determiner(("which", "which"), "welch", DIESER, WEAK),
    "my": Determiner(("my", "my"), "mein", EIN, MIXED),
    "his": Determiner(("his", "his"), "sein", EIN, MIXED),
    "her": Determiner(("her", "her"), "ihr", EIN, MIXED),
    "our": Determiner(("our", "our"), "unser", EIN, MIXED),
    "their": Determiner(("their", "their"), "ihr", EIN, MIXED),
}
POOLS = {
    False: entries("the the the the a a a my his her our their this every no")[0],
    True: entries("the the the bare bare my his her our their this some many all no")[0],
    "negated": entries("the the any any any my his her our their this")[0],
    "known": entries("the the my his her our their this")[0],
}


class NounPhrase(NamedTuple):
    en: str
    de: tuple[str, ...]  # nominative, accusative, dative
    agreement: str = "3s"  # person and number: 1s, 3s, 1p, 3p
    form: str = (
        "definite"  # pronoun, definite, universal, none, negative or indefinite: orders words
    )
    gender: str = ""  # m, f, n, or p in the plural
    kind: str = "person"


def noun_phrase(
    determiner: Determiner, noun: Noun, *adjectives: Adjective, plural: bool = False
) -> NounPhrase:
    """The phrase of a determiner, adjectives and a noun, inflected on both sides."""
    number, gender = int(plural), "p" if plural else noun.gender
    english = join(*(a.en for a in adjectives), noun.en[number])
    article = determiner.en[number]
    if article == "a" and english[0] in VOWELS and not english.startswith("use"):
        article = "an"
    forms = zip(
        determiner.endings[gender], determiner.adjective[gender], noun.de[number], strict=True
    )
    german = (join(determiner.de + d, *(a.stem + e for a in adjectives), n) for d, e, n in forms)
    agreement = "3p" if plural else "3s"
    return NounPhrase(
        join(article, english), tuple(german), agreement, determiner.form, gender, noun.kind
    )


def pronoun(english: str, german: str, agreement: str) -> NounPhrase:
    """A personal pronoun in its three cases, of which the English covers one."""
    return NounPhrase(english, tuple(german.split()), agreement, "pronoun")


SUBJECT_PRONOUNS = [
    pronoun("I", "ich mich mir", "1s"),
    pronoun("he", "er ihn ihm", "3s"),
    pronoun("she", "sie sie ihr", "3s"),
    pronoun("we", "wir uns uns", "1p"),
    pronoun("they", "sie sie ihnen", "3p"),
]
OBJECT_PRONOUNS = [
    phrase._replace(en=english)
    for phrase, english in zip(SUBJECT_PRONOUNS, ["me", "him", "her", "us", "them"], strict=True)
]
IT = {"m": "er ihn ihm", "f": "sie sie ihr", "n": "es es ihm", "p": "sie sie ihnen"}
RELATIVE = table("der den dem, die die der, das das dem, die die denen")
CONTRACTIONS = {
    "in dem": "im",
    "an dem": "am",
    "von dem": "vom",
    "zu dem": "zum",
    "zu der": "zur",
    "in das": "ins",
}


def name(word: str) -> NounPhrase:
    """A proper name, which German leaves uninflected in these cases."""
    return NounPhrase(word, (word,) * 3)


def genitive(word: str) -> Determiner:
    """A name as possessor: "Anna's old book" is "Annas altes Buch"."""
    return Determiner((f"{word}'s", f"{word}'s"), f"{word}s", FIXED, STRONG)


def both(first: NounPhrase, second: NounPhrase) -> NounPhrase:
    """Two phrases joined by "and", which make a plural."""
    german = tuple(f"{a} und {b}" for a, b in zip(first.de, second.de, strict=True))
    form = "indefinite" if "indefinite" in (first.form, second.form) else "definite"
    return NounPhrase(f"{first.en} and {second.en}", german, "3p", form, "p", first.kind)


def preposition(english: str, german: str, phrase: NounPhrase, case: int) -> Phrase:
    """A prepositional phrase, contracted where German contracts ("in dem Haus" is "im Haus")."""
    word, _, rest = phrase.de[case].partition(" ")
    pair = f"{german} {word}"
    return Phrase(join(english, phrase.en), join(CONTRACTIONS.get(pair, pair), rest))


def cardinal(n: int) -> Phrase:
    """The number n, from 1 to 999, in words: 21 is "twenty-one", "einundzwanzig"."""
    units, decades = PHRASES["ones"], PHRASES["tens"]
    hundreds, rest = divmod(n, 100)
    tens, ones = divmod(rest, 10)
    if tens < 2:
        low = NOTHING if rest == 0 else Phrase("one", "eins") if rest == 1 else units[rest]
    elif ones:
        low = Phrase(
            f"{decades[tens].en}-{units[ones].en}", f"{units[ones].de}und{decades[tens].de}"
        )
    else:
        low = decades[tens]
    if not hundreds:
        return low
    tail = f" and {low.en}" if rest else ""
    return Phrase(f"{units[hundreds].en} hundred{tail}", f"{units[hundreds].de}hundert{low.de}")


def counting(n: int) -> Determiner:
    """The number n as a determiner: "three old books" is "drei alte Bücher"."""
    number = cardinal(n)
    return Determiner(("", number.en), number.de, FIXED, STRONG, "indefinite")
