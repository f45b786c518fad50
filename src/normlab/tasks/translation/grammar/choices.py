"""Random choices: noun phrases, places, times and clauses that sound plausible."""

import random
from collections.abc import Iterable
from typing import Any

from normlab.tasks.translation.grammar.clauses import (
    BE,
    BELOW,
    TIMES,
    Clause,
    clause,
    infinitive,
    subordinate,
)
from normlab.tasks.translation.grammar.lexicon import (
    ACC,
    ADJECTIVES,
    DAT,
    NAMES,
    NOM,
    NOTHING,
    NOUNS,
    PHRASES,
    TAKERS,
    VERB_LISTS,
    VERBS,
    Adjective,
    Noun,
    Phrase,
    entries,
    join,
)
from normlab.tasks.translation.grammar.phrases import (
    DETERMINERS,
    IT,
    OBJECT_PRONOUNS,
    POOLS,
    RELATIVE,
    SUBJECT_PRONOUNS,
    NounPhrase,
    both,
    cardinal,
    counting,
    genitive,
    name,
    noun_phrase,
    preposition,
)

Rng = random.Random


def random_noun_phrase(rng: Rng, kind: str, *, negated: bool = False) -> NounPhrase:
    """A noun of the kind with a determiner and up to two adjectives."""
    plural = rng.random() < 0.3
    noun = rng.choice(NOUNS[kind])
    word, roll = rng.choice(POOLS["negated" if negated else plural]), rng.random()
    determiner = DETERMINERS[word]
    if not negated and roll < 0.06:
        determiner = genitive(rng.choice(NAMES))
    elif not negated and plural and roll < 0.25:
        determiner = counting(rng.randint(2, 12) if roll < 0.2 else rng.randint(13, 99))
    adjectives: list[Adjective] = []
    if rng.random() < 0.45:
        count = 1 if rng.random() < 0.85 else 2
        pool = rng.choice((ADJECTIVES["any"], ADJECTIVES[noun.kind], ADJECTIVES[noun.kind]))
        adjectives = rng.sample(pool, count)
    return noun_phrase(determiner, noun, *adjectives, plural=plural)


def with_relative(rng: Rng, phrase: NounPhrase) -> NounPhrase:
    """The phrase with a relative clause whose gap is its subject, its object or after "with"."""
    who, roll = phrase.kind == "person", rng.random()
    tense = rng.choice(["present", "past", "perfect"])
    forms = RELATIVE[phrase.gender]
    if who and roll < 0.55:
        c = random_clause(rng, tense, NounPhrase("who", tuple(forms), phrase.agreement))
        word = NOTHING
    elif who and roll < 0.65:
        verb = rng.choice(VERB_LISTS["intransitive"])
        c = clause(random_subject(rng), verb, tense)
        word = Phrase("with whom", f"mit {forms[DAT]}")
    elif who and roll < 0.75:
        verb = rng.choice(VERB_LISTS["dative"])
        c, word = clause(random_subject(rng), verb, tense), Phrase("whom", forms[DAT])
    else:
        verb = rng.choice(TAKERS[phrase.kind])
        time = random_time(rng, tense) if rng.random() < 0.3 else NOTHING
        c = clause(random_subject(rng), verb, tense, time=time)
        word = Phrase("whom" if who else "that", forms[ACC])
    relative = subordinate(c, word)
    german = tuple(f"{case}, {relative.de}," for case in phrase.de)
    return phrase._replace(en=f"{phrase.en} {relative.en}", de=german)


def random_subject(rng: Rng, depth: int = 0) -> NounPhrase:
    """Somebody: a pronoun, a name, two people, a person or an animal."""
    roll = rng.random()
    if roll < 0.2:
        return rng.choice(SUBJECT_PRONOUNS)
    if roll < 0.32:
        return name(rng.choice(NAMES))
    phrase = random_noun_phrase(rng, "animal" if roll < 0.42 else "person")
    if roll > 0.95:
        return both(name(rng.choice(NAMES)), phrase)
    if roll > 0.9:
        attribute = preposition("with", "mit", random_noun_phrase(rng, "worn"), DAT)
        german = tuple(f"{case} {attribute.de}" for case in phrase.de)
        return phrase._replace(en=f"{phrase.en} {attribute.en}", de=german)
    return with_relative(rng, phrase) if depth and rng.random() < 0.25 else phrase


def random_object(
    rng: Rng, subject: NounPhrase, kinds: Iterable[str], *, negated: bool = False, depth: int = 0
) -> NounPhrase:
    """An object of one of the kinds; negated, "a" and a bare plural become "not ... any"."""
    kind, roll = rng.choice(tuple(kinds)), rng.random()
    if kind == "person" and roll < 0.18:
        return rng.choice(OBJECT_PRONOUNS if subject.agreement[0] == "3" else OBJECT_PRONOUNS[1:3])
    if kind == "person" and roll < 0.32:
        return name(rng.choice(NAMES))
    phrase = random_noun_phrase(rng, kind, negated=negated)
    if depth and roll > 0.75:
        return with_relative(rng, phrase)
    if roll > 0.68 and not negated:
        return both(phrase, random_noun_phrase(rng, kind))
    return phrase


def random_place(rng: Rng) -> Phrase:
    """Where something happens: a city or a place with its own preposition and the dative."""
    if rng.random() < 0.3:
        city = rng.choice(PHRASES["city"])
        return Phrase(f"in {city.en}", f"in {city.de}")
    phrase, noun = known_place(rng)
    return preposition(*noun.preposition, phrase, DAT)


def known_place(rng: Rng) -> tuple[NounPhrase, Noun]:
    """A place in the singular, and its noun."""
    noun = rng.choice(NOUNS["place"])
    adjectives = [rng.choice(ADJECTIVES["place"])] if rng.random() < 0.3 else []
    return noun_phrase(DETERMINERS[rng.choice(["the", "the", "a", "our"])], noun, *adjectives), noun


def random_spot(rng: Rng, case: int) -> Phrase:
    """On, under or next to a piece of furniture: dative for where, accusative for where to."""
    furniture = noun_phrase(DETERMINERS[rng.choice(POOLS["known"])], rng.choice(NOUNS["furniture"]))
    return preposition(*rng.choice(PHRASES["spot"]), furniture, case)


def random_direction(rng: Rng) -> Phrase:
    """Where somebody goes: "nach" a city, "in" with the accusative, or "zu"."""
    if rng.random() < 0.35:
        city = rng.choice(PHRASES["city"])
        return Phrase(f"to {city.en}", f"nach {city.de}")
    phrase, noun = known_place(rng)
    if noun.preposition.de == "in":
        return preposition("into", "in", phrase, ACC)
    return preposition("to", "zu", phrase, DAT)


UNITS = [
    Phrase("days", "Tagen"),
    Phrase("weeks", "Wochen"),
    Phrase("months", "Monaten"),
    Phrase("years", "Jahren"),
]


def random_time(rng: Rng, tense: str) -> Phrase:
    """A time that the tense allows: an adverb, a weekday, a clock time, a year, a distance."""
    group, roll = TIMES.get(tense, "past"), rng.random()
    if group == "perfect" or roll < 0.5:
        return rng.choice(PHRASES[group])
    if roll < 0.75:
        return random_clock(rng)
    if group == "present":
        day = rng.choice(PHRASES["weekday"])
        return Phrase(f"on {day.en}s", f"{day.de.lower()}s")
    if roll < 0.83:
        day = rng.choice(PHRASES["weekday"])
        return Phrase(f"on {day.en}", f"am {day.de}")
    number, unit = cardinal(rng.randint(2, 12)), rng.choice(UNITS)
    if group == "future":
        return Phrase(f"in {number.en} {unit.en}", f"in {number.de} {unit.de}")
    if roll < 0.92:
        return Phrase(f"{number.en} {unit.en} ago", f"vor {number.de} {unit.de}")
    year = rng.randint(1950, 2020)
    return Phrase(f"in {year}", f"im Jahr {year}")


def random_clock(rng: Rng) -> Phrase:
    """A time of the day; half past two is "halb drei", half of the third hour."""
    hour = rng.randint(1, 12)
    now, then = cardinal(hour), cardinal(hour % 12 + 1)
    return rng.choice(
        [
            Phrase(f"at {now.en} o'clock", f"um {'ein' if hour == 1 else now.de} Uhr"),
            Phrase(f"at half past {now.en}", f"um halb {then.de}"),
            Phrase(f"at a quarter past {now.en}", f"um Viertel nach {now.de}"),
            Phrase(f"at ten to {then.en}", f"um zehn vor {then.de}"),
        ]
    )


def copula(rng: Rng, subject: NounPhrase, kind: str, negated: bool) -> Phrase:
    """What follows "to be": a profession, a comparison, or an adjective with its degree."""
    roll = rng.random()
    if kind == "person" and roll < 0.3:
        plural = subject.agreement[1] == "p"
        word = "any" if negated else "bare" if plural else "a"
        adjectives = [rng.choice(ADJECTIVES["person"])] if rng.random() < 0.5 else []
        noun = rng.choice(NOUNS["person"])
        phrase = noun_phrase(DETERMINERS[word], noun, *adjectives, plural=plural)
        return Phrase(phrase.en, phrase.de[NOM])
    adjective = rng.choice(ADJECTIVES[rng.choice(["any", kind, kind])])
    if adjective.comparative and roll < 0.65:
        noun, plural = rng.choice(NOUNS[kind]), rng.random() < 0.3
        other = noun_phrase(DETERMINERS[rng.choice(POOLS["known"])], noun, plural=plural)
        if roll < 0.45:
            than = f"so {adjective.de} wie {other.de[NOM]}"
            return Phrase(f"as {adjective.en} as {other.en}", than)
        more = adjective.comparative
        return Phrase(f"{more.en} than {other.en}", f"{more.de} als {other.de[NOM]}")
    degree = rng.choice(PHRASES["degree"]) if rng.random() < 0.6 else NOTHING
    return Phrase(join(degree.en, adjective.en), join(degree.de, adjective.de))


def random_clause(
    rng: Rng,
    tense: str,
    subject: NounPhrase | None = None,
    *,
    depth: int = 0,
    timed: bool = True,
    placed: bool = True,
    bare: bool = False,
) -> Clause:
    """A clause about somebody; `bare` leaves out what an infinitive could not show.

    Adverbs stay away from the end where a clause follows, which would blur their attachment.
    """
    subject = subject or random_subject(rng, depth)
    known = subject.form in ("definite", "pronoun")
    negated = known and not bare and rng.random() < 0.13
    frames = FRAMES if depth else FRAMES[:-3]
    frame = rng.choices(frames, FRAME_WEIGHTS[: len(frames)])[0]
    verb = rng.choice(VERB_LISTS[frame]) if frame != "copula" else BE
    # An object may carry a relative clause only at the end, or English would attach what follows.
    loaded = depth if rng.random() < 0.35 else 0
    parts: dict[str, Any] = {}
    if frame == "transitive":
        parts["direct"] = random_object(rng, subject, verb.needs, negated=negated, depth=loaded)
    elif frame == "dative":
        parts["indirect"] = random_object(rng, subject, ["person"], negated=negated, depth=loaded)
    elif frame == "ditransitive":
        parts["indirect"] = random_object(rng, subject, ["person"])
        if negated:  # "kein" must be the only new object
            parts["indirect"] = name(rng.choice(NAMES))
        parts["direct"] = random_object(rng, subject, verb.needs, negated=negated, depth=loaded)
    elif frame == "prepositional":
        case = ACC if verb.needs[2] == "acc" else DAT
        other = random_object(rng, subject, ["person", "animal", "thing"])
        if negated or verb.needs[0] == "with":
            other = name(rng.choice(NAMES))
        english = verb.needs[0].replace("-", "")
        parts["complement"] = preposition(english, verb.needs[1], other, case)
    elif frame == "motion":
        parts["complement"] = random_direction(rng)
    elif frame == "location":
        at_thing = rng.random() < 0.4 and placed
        parts["complement"] = random_spot(rng, DAT) if at_thing else random_place(rng)
    elif frame == "placement":
        parts["direct"] = random_object(rng, subject, ["thing"], negated=negated)
        parts["complement"] = random_spot(rng, ACC)
        loaded = 0
    elif frame == "copula":
        parts["complement"] = copula(rng, subject, "person", negated)
    elif frame != "intransitive":
        parts["extra"] = random_extra(rng, frame, subject, tense, depth)
        loaded = 1
    if not loaded:
        if frame in MANNERED and rng.random() < 0.12:
            parts["manner"] = rng.choice(PHRASES["manner"])
        if placed and frame in PLACED and rng.random() < 0.25:
            parts["place"] = random_place(rng)
        if timed and not bare and rng.random() < 0.3:
            parts["time"] = random_time(rng, tense)
    if not negated and not bare and rng.random() < 0.1:
        group = TIMES.get(tense)
        if group in ("present", "past", "perfect"):
            parts["often"] = rng.choice(PHRASES["perfect_often" if group == "perfect" else "often"])
    return clause(subject, verb, tense, negated=negated, **parts)


FRAMES = entries("intransitive transitive dative ditransitive prepositional motion location")[0]
FRAMES += ["placement", "copula", "that", "whether", "to"]  # the last three take a clause
FRAME_WEIGHTS = [12, 34, 6, 9, 7, 9, 6, 5, 9, 8, 3, 8]
PLACED = ("intransitive", "transitive", "dative", "prepositional")
MANNERED = (*PLACED, "ditransitive", "motion", "placement")


def random_extra(rng: Rng, frame: str, subject: NounPhrase, tense: str, depth: int) -> Phrase:
    """The clause that a verb such as "say", "ask" or "try" takes, with its German commas."""
    if frame == "to":
        inner = infinitive(random_clause(rng, "present", subject, bare=True))
    else:
        then = rng.choice(BELOW[TIMES.get(tense, "past")])
        if frame == "that":
            c = random_thing_or_clause(rng, then, depth - 1)
            inner = subordinate(c, Phrase("that", "dass"))
        else:
            word = rng.choice([Phrase("whether", "ob"), *PHRASES["why"]])
            c = random_clause(rng, then, timed=False, placed=word.en != "where")
            inner = subordinate(c, word)
    return Phrase(inner.en, f", {inner.de},")


def random_thing_or_clause(rng: Rng, tense: str, depth: int = 0, timed: bool = True) -> Clause:
    """A clause about somebody, or about the weather, a thing, or what happens to a thing."""
    roll = rng.random()
    if roll > 0.2 or TIMES.get(tense) not in ("present", "past"):
        return random_clause(rng, tense, depth=depth, timed=timed)
    tense = TIMES[tense]
    if roll < 0.03:
        return clause(name_it("m", "es"), rng.choice(WEATHER), tense)
    time = random_time(rng, tense) if timed and rng.random() < 0.4 else NOTHING
    kind = rng.choice(["thing", "food", "text"])
    subject = random_noun_phrase(rng, kind)
    if depth and rng.random() < 0.4:
        subject = with_relative(rng, subject)
    negated = subject.form == "definite" and rng.random() < 0.15
    if roll < 0.09:
        described = copula(rng, subject, kind, negated)
        return clause(subject, BE, tense, complement=described, time=time, negated=negated)
    if roll < 0.12:
        lie = VERBS["location"][rng.choice(["lie", "stand"])]
        return clause(subject, lie, tense, complement=random_spot(rng, DAT), negated=negated)
    agent = preposition("by", "von", random_noun_phrase(rng, "person"), DAT)
    passive = "passive past" if tense == "past" else "passive"
    place = agent if rng.random() < 0.5 else NOTHING
    verb = rng.choice([v for v in TAKERS[kind] if v.en[0] != "have"])
    return clause(subject, verb, passive, place=place, time=time, negated=negated)


WEATHER = [VERBS["other"]["rain"], VERBS["other"]["snow"]]


def name_it(gender: str, german: str = "") -> NounPhrase:
    """The pronoun "it" or "them" for a thing, in German of the gender of its noun."""
    forms = (german, german, german) if german else tuple(IT[gender].split())
    english = "them" if gender == "p" else "it"
    return NounPhrase(english, forms, "3p" if gender == "p" else "3s", "pronoun", gender, "thing")
