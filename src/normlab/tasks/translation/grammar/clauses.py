"""Clauses: verb forms, and German word order as statement, question, subordinate, infinitive."""

from typing import NamedTuple

from normlab.tasks.translation.grammar.lexicon import (
    ACC,
    DAT,
    NOM,
    NOTHING,
    VERBS,
    Phrase,
    Verb,
    entries,
    join,
)
from normlab.tasks.translation.grammar.phrases import NounPhrase

# German compound tenses: (auxiliary or "" for haben/sein, auxiliary in the past, with participle).
COMPOUND = {
    "perfect": ("", False, True),
    "pluperfect": ("", True, True),
    "future": ("werden", False, False),
    "passive": ("werden", False, True),
    "passive past": ("werden", True, True),
    "can": ("können", False, False),
    "could": ("können", True, False),
    "should": ("sollen", True, False),
    "want": ("wollen", False, False),
    "wanted": ("wollen", True, False),
    "have to": ("müssen", False, False),
    "had to": ("müssen", True, False),
}
AUXILIARIES = {
    infinitive: ((ich, er, wir), past)
    for infinitive, ich, er, wir, past in entries(
        """haben habe hat haben hatte; sein bin ist sind war; werden werde wird werden wurde;
        können kann kann können konnte; sollen soll soll sollen sollte;
        wollen will will wollen wollte; müssen muss muss müssen musste"""
    )
}
SEMI_MODALS = dict.fromkeys(("want", "wanted"), ("want to", "wants to", "wanted to"))
SEMI_MODALS |= dict.fromkeys(("have to", "had to"), ("have to", "has to", "had to"))
# The group of a tense says which adverbials of time it takes and what may stand below it.
GROUPS = {
    "present": ["present", "can", "should", "want", "have to"],
    "past": ["past", "could", "wanted", "had to"],
    "perfect": ["perfect"],
    "future": ["future"],
}
TIMES = {tense: group for group, tenses in GROUPS.items() for tense in tenses}
BELOW = {
    "present": ["present", "present", "can", "want", "have to", "perfect"],
    "past": ["past", "past", "past", "could", "wanted", "had to"],
    "perfect": ["present", "past"],
    "future": ["present"],
}


def finite(present: tuple[str, ...], past: str, agreement: str, in_past: bool) -> str:
    """The German finite form for a person and number."""
    plural = agreement[1] == "p"
    if in_past:
        return past + (("n" if past.endswith("e") else "en") if plural else "")
    return present[2 if plural else agreement == "3s"]


def german_verb(verb: Verb, tense: str, agreement: str) -> tuple[str, str, str]:
    """The finite verb and what closes a main clause, then both as they end a subordinate one."""
    if tense in ("present", "past"):
        word = finite(verb.present, verb.past, agreement, tense == "past")
        return word, verb.prefix, verb.prefix + word
    auxiliary, in_past, with_participle = COMPOUND[tense]
    word = finite(*AUXILIARIES[auxiliary or verb.helper], agreement, in_past)
    tail = verb.participle if with_participle else verb.infinitive
    return word, tail, f"{tail} {word}"


def english_verb(
    verb: Verb, tense: str, agreement: str, negated: bool, adverb: str
) -> tuple[str, str, str]:
    """The verb of a statement, then the auxiliary and the remainder that a question parts."""
    base, participle = verb.en[0], verb.en[3]
    third, negation = agreement == "3s", "not" if negated else ""
    if tense in SEMI_MODALS or (tense in ("present", "past") and base != "be"):
        modal = SEMI_MODALS.get(tense)
        forms = [f"{word} {base}" for word in modal] if modal else verb.en
        in_past = TIMES[tense] == "past"
        auxiliary = "did" if in_past else "does" if third else "do"
        remainder = join(negation, adverb, forms[0])
        word = forms[2] if in_past else forms[1] if third else forms[0]
        return f"{auxiliary} {remainder}" if negated else join(adverb, word), auxiliary, remainder
    if tense in ("present", "passive"):
        auxiliary = {"1s": "am", "3s": "is"}.get(agreement, "are")
    elif tense in ("past", "passive past"):
        auxiliary = "was" if agreement[1] == "s" else "were"
    else:
        have = "has" if third else "have"
        auxiliary = {"perfect": have, "pluperfect": "had", "future": "will"}.get(tense, tense)
    if tense in ("present", "past"):
        main = ""
    else:
        main = base if tense in ("future", "can", "could", "should") else participle
    remainder = join(negation, adverb, main)
    return f"{auxiliary} {remainder}".replace("can not", "cannot").strip(), auxiliary, remainder


class Clause(NamedTuple):
    """A clause before its word order is chosen: the pieces of both languages."""

    subject: Phrase
    verb: tuple[str, str, str]  # English: statement verb, or auxiliary and remainder
    rest: str
    finite: str
    middle: str  # German between subject and closing verb
    tail: str
    joined: str
    infinitive: Phrase  # the verb after "to", "zu"
    extra: Phrase  # a clause after the last verb, its German with its commas


BE = VERBS["other"]["be"]


def clause(
    subject: NounPhrase,
    verb: Verb,
    tense: str = "present",
    *,
    direct: NounPhrase | None = None,
    indirect: NounPhrase | None = None,
    complement: Phrase = NOTHING,
    manner: Phrase = NOTHING,
    place: Phrase = NOTHING,
    time: Phrase = NOTHING,
    often: Phrase = NOTHING,
    negated: bool = False,
    extra: Phrase = NOTHING,
) -> Clause:
    """The clause of a subject, a verb and what they bring, `indirect` standing in the dative.

    German order: pronouns, known objects, time, frequency, nicht, manner, place, new objects,
    complement. "nicht" is left out where an object has taken the negation as "kein".
    """
    reflexive = {"1s": "mich", "1p": "uns"}.get(subject.agreement, "sich") if verb.reflexive else ""
    slots = {"pronoun": "", "definite": "", "indefinite": ""}
    kein = False
    for phrase, case in ((indirect, DAT), (direct, ACC)):
        if phrase:
            kein = kein or phrase.form == "negative"
            form = {"negative": "indefinite", "none": "indefinite", "universal": "definite"}.get(
                phrase.form, phrase.form
            )
            slots[form] = join(slots[form], phrase.de[case])
    negation = "nicht" if negated and not kein and not complement.de.startswith("kein") else ""
    middle = join(
        reflexive,
        slots["pronoun"],
        slots["definite"],
        time.de,
        often.de,
        negation,
        manner.de,
        place.de,
        slots["indefinite"],
        complement.de,
    )
    objects = join(indirect.en if indirect else "", direct.en if direct else "")
    word, tail, joined = german_verb(verb, tense, subject.agreement)
    simple = verb.infinitive.removeprefix(verb.prefix)
    return Clause(
        Phrase(subject.en, subject.de[NOM]),
        english_verb(verb, tense, subject.agreement, negated, often.en),
        join(objects, complement.en, manner.en, place.en, time.en),
        word,
        middle,
        tail,
        joined,
        Phrase(f"to {verb.en[0]}", f"{verb.prefix}zu{simple}" if verb.prefix else f"zu {simple}"),
        extra,
    )


def statement(c: Clause, front: Phrase = NOTHING) -> Phrase:
    """The main clause; whatever stands in front in German pushes the subject behind the verb."""
    order = (front.de, c.finite, c.subject.de) if front.de else (c.subject.de, c.finite)
    german = join(*order, c.middle, c.tail) + c.extra.de
    return Phrase(join(front.en, c.subject.en, c.verb[0], c.rest, c.extra.en), german)


def question(c: Clause, word: Phrase = NOTHING) -> Phrase:
    """The question, yes or no without a question word."""
    english = join(word.en, c.verb[1], c.subject.en, c.verb[2], c.rest, c.extra.en)
    return Phrase(english, join(word.de, c.finite, c.subject.de, c.middle, c.tail) + c.extra.de)


def subordinate(c: Clause, word: Phrase = NOTHING) -> Phrase:
    """The subordinate clause after its conjunction or relative pronoun, German verb last."""
    german = join(word.de, c.subject.de, c.middle, c.joined) + c.extra.de
    return Phrase(join(word.en, c.subject.en, c.verb[0], c.rest, c.extra.en), german)


def infinitive(c: Clause) -> Phrase:
    """The infinitive clause with "to" and "zu", without its subject."""
    german = join(c.middle, c.infinitive.de) + c.extra.de
    return Phrase(join(c.infinitive.en, c.rest, c.extra.en), german)
