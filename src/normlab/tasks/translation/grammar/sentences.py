"""The kinds of sentence, and how often each is drawn."""

from normlab.tasks.translation.grammar.choices import (
    Rng,
    name_it,
    random_clause,
    random_noun_phrase,
    random_place,
    random_subject,
    random_thing_or_clause,
    random_time,
)
from normlab.tasks.translation.grammar.clauses import (
    BE,
    BELOW,
    TIMES,
    clause,
    infinitive,
    question,
    statement,
    subordinate,
)
from normlab.tasks.translation.grammar.lexicon import (
    ACC,
    ADJECTIVES,
    NAMES,
    NOTHING,
    NOUNS,
    PHRASES,
    TAKERS,
    VERB_LISTS,
    VERBS,
    Phrase,
)
from normlab.tasks.translation.grammar.phrases import (
    DETERMINERS,
    DIESER,
    STRONG,
    SUBJECT_PRONOUNS,
    Determiner,
    NounPhrase,
    cardinal,
    counting,
    name,
    noun_phrase,
)

MAIN_TENSES = [*["present"] * 2, *["past"] * 2, "perfect", *TIMES]


def simple_sentence(rng: Rng, depth: int | None = None) -> Phrase:
    """A main clause, at times with its time or its place in front."""
    tense, roll = rng.choice(MAIN_TENSES), rng.random()
    depth = rng.choice((0, 1, 1, 2)) if depth is None else depth
    front = random_time(rng, tense) if roll < 0.3 else NOTHING
    return statement(random_thing_or_clause(rng, tense, depth, timed=not front.en), front)


def joined_sentence(rng: Rng) -> Phrase:
    """Two main clauses with "and" or "but", which leave German word order alone."""
    word = rng.choice([Phrase(" and", " und"), Phrase(", but", ", aber"), Phrase(" or", " oder")])
    first, second = simple_sentence(rng, 0), simple_sentence(rng, 0)
    return Phrase(f"{first.en}{word.en} {second.en}", f"{first.de}{word.de} {second.de}")


def subordinate_sentence(rng: Rng) -> Phrase:
    """A main clause with an adverbial clause after it, or before it as its first element."""
    tense, roll = rng.choice(MAIN_TENSES), rng.random()
    group = TIMES[tense]
    if group == "perfect":
        group, tense = "present", "present"
    if group == "past" and roll < 0.12:
        word, then = Phrase("after", "nachdem"), "pluperfect"
    elif group != "future" and roll < 0.2:
        word, then = Phrase("so that", "damit"), "can" if group == "present" else "could"
    else:
        word, then = rng.choice(PHRASES[f"{group}_while"]), rng.choice(BELOW[group])
        if word.de in ("bis", "während", "bevor", "sobald", "wenn") and then == "perfect":
            then = "present"
    short = then == "pluperfect"
    inner = subordinate(
        random_clause(rng, then, timed=False) if short else random_thing_or_clause(rng, then), word
    )
    main = random_clause(rng, tense, timed=False)
    if rng.random() < 0.4:
        return statement(main, Phrase(f"{inner.en},", f"{inner.de},"))
    first = statement(main)
    return Phrase(f"{first.en} {inner.en}", f"{first.de}, {inner.de}")


def purpose_sentence(rng: Rng) -> Phrase:
    """A main clause with "in order to", "um ... zu"."""
    tense, subject = rng.choice(MAIN_TENSES), random_subject(rng)
    goal = infinitive(random_clause(rng, "present", subject, bare=True))
    main = random_clause(rng, tense, subject, timed=False)
    front = random_time(rng, tense) if rng.random() < 0.3 else NOTHING
    extra = Phrase(f"in order {goal.en}", f", um {goal.de}")
    return statement(main._replace(extra=extra), front)


def pronoun_sentence(rng: Rng) -> Phrase:
    """Somebody does something with a thing, then "it": er, sie or es, as the thing's noun asks."""
    person = rng.choice(
        [name(rng.choice(NAMES)), rng.choice(SUBJECT_PRONOUNS), random_noun_phrase(rng, "person")]
    )
    kind, tense = rng.choice(["thing", "food", "text"]), rng.choice(["past", "past", "present"])
    thing = random_noun_phrase(rng, kind)
    while thing.form in ("universal", "none"):
        thing = random_noun_phrase(rng, kind)
    first, second = rng.sample([v for v in TAKERS[kind] if " " not in v.en[0]], 2)
    time = random_time(rng, tense) if rng.random() < 0.3 else NOTHING
    main = statement(clause(person, first, tense, direct=thing), time)
    it = name_it(thing.gender)
    if rng.random() < 0.5:
        silent = person._replace(en="", de=("", "", ""))
        then = statement(clause(silent, second, tense, direct=it))
        return Phrase(f"{main.en} and {then.en}", f"{main.de} und {then.de}")
    it = it._replace(en="they" if thing.gender == "p" else "it")
    adjective, degree = rng.choice(ADJECTIVES[kind]), rng.choice(PHRASES["degree"])
    described = Phrase(f"{degree.en} {adjective.en}", f"{degree.de} {adjective.de}")
    reason = subordinate(clause(it, BE, tense, complement=described), Phrase("because", "weil"))
    return Phrase(f"{main.en} {reason.en}", f"{main.de}, {reason.de}")


def existence_sentence(rng: Rng) -> Phrase:
    """ "There is" a thing somewhere, German with the place in front of "es gibt"."""
    kind, negated = rng.choice(["thing", "animal", "food", "person"]), rng.random() < 0.2
    plural, adjectives = rng.random() < 0.6, []
    noun = rng.choice(NOUNS[kind])
    if rng.random() < 0.4:
        adjectives = [rng.choice(ADJECTIVES[kind])]
    determiner = DETERMINERS["no" if negated else "many" if plural else "a"]
    if plural and not negated and rng.random() < 0.6:
        determiner = counting(rng.randint(2, 99))
    phrase, place = noun_phrase(determiner, noun, *adjectives, plural=plural), random_place(rng)
    past = rng.random() < 0.4
    be = ("were" if past else "are") if plural else ("was" if past else "is")
    give = "gab" if past else "gibt"
    english = f"there {be} {phrase.en} {place.en}"
    return Phrase(english, f"{place.de} {give} es {phrase.de[ACC]}")


def measure_sentence(rng: Rng) -> Phrase:
    """An age or a price."""
    number = cardinal(rng.randint(2, 99))
    if rng.random() < 0.5:
        subject = rng.choice(
            [
                name(rng.choice(NAMES)),
                random_noun_phrase(rng, "person"),
                rng.choice(SUBJECT_PRONOUNS),
            ]
        )
        age = Phrase(f"{number.en} years old", f"{number.de} Jahre alt")
        return statement(clause(subject, BE, rng.choice(["present", "past"]), complement=age))
    number = cardinal(100 * rng.randint(0, 9) + rng.randint(2, 99))
    subject = random_noun_phrase(rng, rng.choice(["thing", "food", "text"]))
    price = Phrase(f"{number.en} euros", f"{number.de} Euro")
    return statement(clause(subject, VERBS["other"]["cost"], complement=price))


def yes_no_question(rng: Rng) -> Phrase:
    """A question that starts with the verb."""
    c = random_thing_or_clause(rng, rng.choice(MAIN_TENSES), rng.choice((0, 0, 1)))
    asked = question(c)
    return Phrase(f"{asked.en}?", f"{asked.de}?")


def word_question(rng: Rng) -> Phrase:
    """A question for a circumstance, for the subject or for the object."""
    tense, roll = rng.choice(MAIN_TENSES), rng.random()
    if roll < 0.4:
        word = rng.choice(PHRASES["why"])
        c = random_clause(rng, tense, timed=False, placed=word.en != "where")
        asked = question(c, word)
    elif roll < 0.6:
        asked = statement(random_clause(rng, tense, NounPhrase("who", ("wer", "wen", "wem"))))
    else:
        verb, subject = rng.choice(VERB_LISTS["transitive"]), random_subject(rng)
        kind = rng.choice(verb.needs)
        if roll < 0.75 and kind != "person":
            word = Phrase("what", "was")
        elif roll < 0.75:
            word = Phrase("whom", "wen")
        else:
            plural, noun = rng.random() < 0.3, rng.choice(NOUNS[kind])
            which = noun_phrase(DETERMINERS["which"], noun, plural=plural)
            if plural and roll < 0.85:
                many = Determiner(("", "how many"), "wie viel", DIESER, STRONG)
                which = noun_phrase(many, noun, plural=True)
            word = Phrase(which.en, which.de[ACC])
        time = random_time(rng, tense) if rng.random() < 0.3 else NOTHING
        asked = question(clause(subject, verb, tense, time=time), word)
    return Phrase(f"{asked.en}?", f"{asked.de}?")


SENTENCES = {
    simple_sentence: 38,
    subordinate_sentence: 17,
    joined_sentence: 9,
    yes_no_question: 8,
    word_question: 8,
    purpose_sentence: 6,
    pronoun_sentence: 7,
    existence_sentence: 4,
    measure_sentence: 3,
}
BUILDERS, WEIGHTS = list(SENTENCES), list(SENTENCES.values())


def written(text: str) -> str:
    """The words as a sentence: capital first, commas merged, a full stop where no question mark."""
    text = text.replace(",,", ",").replace(",,", ",").rstrip(",").replace(",?", "?")
    return text[0].upper() + text[1:] + ("" if text.endswith("?") else ".")


def sentence(rng: Rng) -> tuple[str, str]:
    """One random (English, German) sentence pair."""
    english, german = rng.choices(BUILDERS, WEIGHTS)[0](rng)
    return written(english), written(german)
