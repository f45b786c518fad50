"""The embedded corpus: what it promises as a data set, and hand-checked German for each rule."""

import hashlib
import os
import random
import re
import subprocess
import sys

import pytest

from normlab.tasks.translation.grammar import distinct, generate, splits
from normlab.tasks.translation.grammar.choices import UNITS, name_it, random_clock, with_relative
from normlab.tasks.translation.grammar.clauses import (
    clause,
    infinitive,
    question,
    statement,
    subordinate,
)
from normlab.tasks.translation.grammar.lexicon import (
    ACC,
    ADJECTIVE,
    DAT,
    NAMES,
    NOM,
    NOUN,
    PHRASES,
    VERBS,
    Phrase,
    Verb,
)
from normlab.tasks.translation.grammar.phrases import (
    DETERMINERS,
    RELATIVE,
    SUBJECT_PRONOUNS,
    NounPhrase,
    cardinal,
    counting,
    genitive,
    name,
    noun_phrase,
    preposition,
)
from normlab.tasks.translation.grammar.sentences import sentence, written


def phrase(determiner: str, *words: str, plural: bool = False) -> NounPhrase:
    """phrase("the", "old", "man"): the last word is the noun."""
    adjectives = [ADJECTIVE[word] for word in words[:-1]]
    return noun_phrase(DETERMINERS[determiner], NOUN[words[-1]], *adjectives, plural=plural)


SPEAKER, HE, SHE, WE, THEY = SUBJECT_PRONOUNS
ANNA = name("Anna")
OLD_MAN = phrase("the", "old", "man")
A_DOG = phrase("a", "dog")
YESTERDAY = Phrase("yesterday", "gestern")
SEE, OPEN = VERBS["transitive"]["see"], VERBS["transitive"]["open"]
BE = VERBS["other"]["be"]


# ---- The data set


def test_same_seed_gives_the_same_pairs_and_another_seed_gives_others() -> None:
    assert generate(300, seed=4) == generate(300, seed=4)
    assert generate(300, seed=4) != generate(300, seed=5)


@pytest.mark.slow
def test_pairs_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "import hashlib; from normlab.tasks.translation.grammar import generate; "
        "print(hashlib.sha256(repr(generate(500, seed=7)).encode()).hexdigest())"
    )
    here = hashlib.sha256(repr(generate(500, seed=7)).encode()).hexdigest()
    for hash_seed in ("0", "1"):
        environment = os.environ | {
            "PYTHONHASHSEED": hash_seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        answer = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert answer.stdout.strip() == here


def test_a_longer_request_starts_with_the_shorter_one() -> None:
    assert generate(800, seed=3)[:250] == generate(250, seed=3)


@pytest.mark.slow
def test_a_full_corpus_repeats_no_sentence_and_its_splits_share_none() -> None:
    parts = splits(10_000, 500, 500, seed=1)
    assert {part: len(pairs) for part, pairs in parts.items()} == {
        "train": 10_000,
        "dev": 500,
        "test": 500,
    }
    pairs = [pair for part in parts.values() for pair in part]
    assert pairs == generate(11_000, seed=1)
    assert len({english for english, _ in pairs}) == 11_000
    assert len({german for _, german in pairs}) == 11_000


@pytest.mark.slow
def test_no_source_has_two_translations_anywhere_in_the_grammar() -> None:
    rng, known = random.Random(11), {}
    for _ in range(20_000):
        english, german = sentence(rng)
        assert known.setdefault(english, german) == german


def test_every_sentence_is_written_as_a_sentence() -> None:
    for text in (text for pair in generate(4000, seed=2) for text in pair):
        assert re.fullmatch(r"[A-ZÄÖÜ][\w' ,-]*[\w][.?]", text), text
        assert "  " not in text and " ," not in text and ",," not in text and "_" not in text
        assert 3 <= len(text.split()) <= 25


def test_german_nouns_are_capitalised_and_nothing_else_in_the_middle() -> None:
    nouns = {form for noun in NOUN.values() for number in noun.de for form in number}
    proper = {city.de for city in PHRASES["city"]} | set(NAMES)
    proper |= {f"{word}s" for word in NAMES}
    times = {p.de for key in ("weekday", "past", "present", "perfect", "future")
             for p in PHRASES[key]}  # fmt: skip
    others = {word for time in times for word in time.split()}
    others |= {unit.de for unit in UNITS} | {"Uhr", "Viertel", "Jahr", "Jahre", "Euro"}
    for _, german in generate(2000, seed=6):
        for word in re.findall(r"[\w']+", german)[1:]:
            assert word[0].islower() or word.isdigit() or word in nouns | proper | others, german


def test_lengths_and_vocabulary_leave_something_to_learn() -> None:
    pairs = generate(3000, seed=1)
    lengths = [len(english.split()) for english, _ in pairs]
    assert 9 < sum(lengths) / len(lengths) < 14
    assert min(lengths) <= 4 and max(lengths) >= 23
    assert len({word for _, german in pairs for word in german.split()}) > 1500


@pytest.mark.parametrize("pairs", [0, -1])
def test_an_empty_corpus_is_refused(pairs: int) -> None:
    with pytest.raises(ValueError, match="at least 1 sentence pair"):
        generate(pairs, seed=1)


def test_an_empty_split_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="dev was given 0"):
        splits(10, 0, 10, seed=1)


def test_asking_for_more_than_can_be_drawn_ends_with_the_number_reached() -> None:
    few = iter([("a b c.", "d e f."), ("a b d.", "d e g.")] * 20_000)
    with pytest.raises(ValueError, match="gave 2 distinct sentence pairs, 3 were asked"):
        distinct(lambda: next(few), 3)


def test_a_repeated_translation_is_dropped_as_well_as_a_repeated_source() -> None:
    draws = iter([("a b c.", "x y z."), ("a b d.", "x y z."), ("a b c.", "x y w."),
                  ("too short.", "x y v."), ("a b e.", "x y u.")])  # fmt: skip
    assert distinct(lambda: next(draws), 2) == [("a b c.", "x y z."), ("a b e.", "x y u.")]


# ---- Noun phrases


@pytest.mark.parametrize(
    ("given", "english", "german"),
    [
        (phrase("the", "old", "man"), "the old man",
         ("der alte Mann", "den alten Mann", "dem alten Mann")),
        (phrase("a", "old", "woman"), "an old woman",
         ("eine alte Frau", "eine alte Frau", "einer alten Frau")),
        (phrase("a", "useful", "book"), "a useful book",
         ("ein nützliches Buch", "ein nützliches Buch", "einem nützlichen Buch")),
        (phrase("our", "expensive", "table"), "our expensive table",
         ("unser teurer Tisch", "unseren teuren Tisch", "unserem teuren Tisch")),
        (phrase("this", "tired", "student"), "this tired student",
         ("dieser müde Student", "diesen müden Studenten", "diesem müden Studenten")),
        (phrase("any", "small", "child", plural=True), "any small children",
         ("keine kleinen Kinder", "keine kleinen Kinder", "keinen kleinen Kindern")),
        (phrase("bare", "new", "car", plural=True), "new cars",
         ("neue Autos", "neue Autos", "neuen Autos")),
        (phrase("many", "red", "apple", plural=True), "many red apples",
         ("viele rote Äpfel", "viele rote Äpfel", "vielen roten Äpfeln")),
        (phrase("all", "dark", "house", plural=True), "all dark houses",
         ("alle dunklen Häuser", "alle dunklen Häuser", "allen dunklen Häusern")),
        (noun_phrase(genitive("Anna"), NOUN["book"], ADJECTIVE["old"]), "Anna's old book",
         ("Annas altes Buch", "Annas altes Buch", "Annas altem Buch")),
        (noun_phrase(counting(21), NOUN["book"], ADJECTIVE["old"], plural=True),
         "twenty-one old books",
         ("einundzwanzig alte Bücher", "einundzwanzig alte Bücher", "einundzwanzig alten Büchern")),
    ],
)  # fmt: skip
def test_noun_phrases_agree_in_gender_number_and_case(
    given: NounPhrase, english: str, german: tuple[str, ...]
) -> None:
    assert (given.en, given.de) == (english, german)


def test_dative_plurals_end_in_n_unless_the_plural_ends_in_s() -> None:
    for noun in NOUN.values():
        plural, dative = noun.de[1][NOM], noun.de[1][DAT]
        assert dative == plural if plural.endswith("s") else dative.endswith("n")


@pytest.mark.parametrize(
    ("number", "english", "german"),
    [
        (3, "three", "drei"),
        (17, "seventeen", "siebzehn"),
        (21, "twenty-one", "einundzwanzig"),
        (60, "sixty", "sechzig"),
        (101, "one hundred and one", "einhunderteins"),
        (776, "seven hundred and seventy-six", "siebenhundertsechsundsiebzig"),
    ],
)
def test_numbers_put_the_ones_first_in_german(number: int, english: str, german: str) -> None:
    assert cardinal(number) == (english, german)


def test_prepositions_take_their_case_and_contract_with_the_article_only() -> None:
    garden, island = phrase("the", "old", "garden"), phrase("the", "island")
    assert preposition("in", "in", garden, DAT).de == "im alten Garten"
    assert preposition("into", "in", garden, ACC).de == "in den alten Garten"
    assert preposition("into", "in", phrase("the", "house"), ACC).de == "ins Haus"
    assert preposition("in", "in", phrase("a", "garden"), DAT).de == "in einem Garten"
    assert preposition("on", "auf", island, DAT).de == "auf der Insel"
    assert preposition("to", "zu", island, DAT) == ("to the island", "zur Insel")
    assert preposition("with", "mit", phrase("the", "child", plural=True), DAT).de == (
        "mit den Kindern"
    )


# ---- Clauses


def test_the_german_verb_stays_second_behind_a_fronted_adverb() -> None:
    c = clause(OLD_MAN, SEE, "past", direct=A_DOG)
    assert statement(c) == ("the old man saw a dog", "der alte Mann sah einen Hund")
    assert statement(c, YESTERDAY) == (
        "yesterday the old man saw a dog",
        "gestern sah der alte Mann einen Hund",
    )


def test_a_fronted_clause_counts_as_the_first_element() -> None:
    inner = subordinate(clause(SHE, VERBS["intransitive"]["sleep"]), Phrase("because", "weil"))
    front = Phrase(f"{inner.en},", f"{inner.de},")
    assert statement(clause(HE, VERBS["intransitive"]["wait"]), front) == (
        "because she sleeps, he waits",
        "weil sie schläft, wartet er",
    )


@pytest.mark.parametrize(
    ("tense", "main", "sub", "english"),
    [
        ("present", "sie macht die Tür auf", "sie die Tür aufmacht", "she opens the door"),
        ("past", "sie machte die Tür auf", "sie die Tür aufmachte", "she opened the door"),
        ("perfect", "sie hat die Tür aufgemacht", "sie die Tür aufgemacht hat",
         "she has opened the door"),
        ("future", "sie wird die Tür aufmachen", "sie die Tür aufmachen wird",
         "she will open the door"),
        ("can", "sie kann die Tür aufmachen", "sie die Tür aufmachen kann",
         "she can open the door"),
        ("had to", "sie musste die Tür aufmachen", "sie die Tür aufmachen musste",
         "she had to open the door"),
        ("pluperfect", "sie hatte die Tür aufgemacht", "sie die Tür aufgemacht hatte",
         "she had opened the door"),
    ],
)  # fmt: skip
def test_separable_and_compound_verbs_in_main_and_subordinate_order(
    tense: str, main: str, sub: str, english: str
) -> None:
    c = clause(SHE, OPEN, tense, direct=phrase("the", "door"))
    assert statement(c) == (english, main)
    assert subordinate(c) == (english, sub)


def test_the_infinitive_takes_zu_inside_a_separable_verb() -> None:
    c = clause(SHE, OPEN, direct=phrase("the", "door"))
    assert infinitive(c) == ("to open the door", "die Tür aufzumachen")
    assert infinitive(clause(SHE, SEE, direct=A_DOG)) == ("to see a dog", "einen Hund zu sehen")


def test_verbs_agree_with_their_subject() -> None:
    def german(verb: Verb, tense: str) -> list[str]:
        return [statement(clause(s, verb, tense)).de for s in (SPEAKER, HE, WE, THEY)]

    assert german(VERBS["intransitive"]["sleep"], "present") == [
        "ich schlafe", "er schläft", "wir schlafen", "sie schlafen"]  # fmt: skip
    assert german(VERBS["intransitive"]["work"], "past") == [
        "ich arbeitete", "er arbeitete", "wir arbeiteten", "sie arbeiteten"]  # fmt: skip
    assert german(VERBS["motion"]["go"], "perfect") == [
        "ich bin gegangen", "er ist gegangen", "wir sind gegangen", "sie sind gegangen"
    ]  # fmt: skip
    assert german(VERBS["that"]["know"], "present") == [
        "ich weiß", "er weiß", "wir wissen", "sie wissen"]  # fmt: skip
    assert german(VERBS["motion"]["hike"], "present")[0] == "ich wandere"


def test_negation_is_kein_before_a_new_object_and_nicht_otherwise() -> None:
    new = clause(HE, SEE, direct=phrase("any", "old", "dog"), negated=True)
    assert statement(new) == ("he does not see an old dog", "er sieht keinen alten Hund")
    known = clause(HE, SEE, "perfect", direct=phrase("the", "dog"), negated=True)
    assert statement(known) == ("he has not seen the dog", "er hat den Hund nicht gesehen")
    doctor = phrase("any", "doctor")
    is_no = clause(HE, BE, complement=Phrase(doctor.en, doctor.de[NOM]), negated=True)
    assert statement(is_no) == ("he is not a doctor", "er ist kein Arzt")
    cannot = clause(SPEAKER, VERBS["intransitive"]["get up"], "can", negated=True)
    assert statement(cannot) == ("I cannot get up", "ich kann nicht aufstehen")


def test_known_objects_stand_before_the_time_and_new_ones_after_the_place() -> None:
    where = Phrase("in Berlin", "in Berlin")
    known = clause(ANNA, SEE, "past", direct=phrase("the", "dog"), time=YESTERDAY, place=where)
    new = clause(ANNA, SEE, "past", direct=A_DOG, time=YESTERDAY, place=where)
    assert statement(known) == (
        "Anna saw the dog in Berlin yesterday",
        "Anna sah den Hund gestern in Berlin",
    )
    assert statement(new).de == "Anna sah gestern in Berlin einen Hund"


def test_the_dative_stands_before_the_accusative_and_a_pronoun_before_both() -> None:
    give = VERBS["ditransitive"]["give"]
    book, child = phrase("the", "book"), phrase("the", "child")
    her = SHE._replace(en="her")
    assert statement(clause(HE, give, "past", indirect=child, direct=book)) == (
        "he gave the child the book",
        "er gab dem Kind das Buch",
    )
    assert statement(clause(HE, give, indirect=her, direct=A_DOG)) == (
        "he gives her a dog",
        "er gibt ihr einen Hund",
    )
    assert statement(clause(HE, VERBS["dative"]["help"], "past", indirect=her)).de == (
        "er half ihr"
    )


def test_a_reflexive_pronoun_follows_the_subject() -> None:
    about = preposition("", "an", phrase("the", "king"), ACC)
    c = clause(WE, VERBS["prepositional"]["remember"], "past", complement=about)
    assert statement(c) == ("we remembered the king", "wir erinnerten uns an den König")
    assert subordinate(c, Phrase("that", "dass")).de == "dass wir uns an den König erinnerten"


def test_questions_put_the_verb_first_or_behind_the_question_word() -> None:
    c = clause(OLD_MAN, OPEN, "past", direct=phrase("the", "door"))
    assert question(c) == (
        "did the old man open the door",
        "machte der alte Mann die Tür auf",
    )
    assert question(c, Phrase("why", "warum")).de == "warum machte der alte Mann die Tür auf"
    wants = clause(HE, SEE, "want", direct=A_DOG)
    assert question(wants) == ("does he want to see a dog", "will er einen Hund sehen")


def test_the_passive_takes_werden_and_the_agent_von() -> None:
    agent = preposition("by", "von", phrase("the", "teacher"), DAT)
    c = clause(phrase("the", "book"), VERBS["transitive"]["sell"], "passive past", place=agent)
    assert statement(c) == (
        "the book was sold by the teacher",
        "das Buch wurde vom Lehrer verkauft",
    )


def test_comparison() -> None:
    old = ADJECTIVE["old"].comparative
    complement = Phrase(f"{old.en} than Anna", f"{old.de} als Anna")
    assert statement(clause(HE, BE, complement=complement)) == (
        "he is older than Anna",
        "er ist älter als Anna",
    )


def test_pronouns_for_things_take_the_gender_of_the_german_noun() -> None:
    for noun, subject, accusative in (("table", "er", "ihn"), ("lamp", "sie", "sie"),
                                      ("book", "es", "es")):  # fmt: skip
        forms = name_it(NOUN[noun].gender).de
        assert (forms[NOM], forms[ACC]) == (subject, accusative)


@pytest.mark.parametrize(
    ("gender", "forms"), [("m", "den dem"), ("f", "die der"), ("p", "die denen")]
)
def test_relative_pronouns(gender: str, forms: str) -> None:
    assert " ".join(RELATIVE[gender][ACC:]) == forms


def test_a_relative_clause_stands_between_commas_with_its_verb_last() -> None:
    rng = random.Random(0)
    for _ in range(200):
        given = with_relative(rng, OLD_MAN)
        assert re.match(r"the old man (who|whom|with whom) ", given.en)
        assert re.fullmatch(r"den alten Mann, (mit )?(der|den|dem) .*,", given.de[ACC])


def test_half_past_two_is_halb_drei() -> None:
    rng = random.Random(0)
    seen = dict(random_clock(rng) for _ in range(500))
    assert seen["at half past two"] == "um halb drei"
    assert seen["at half past twelve"] == "um halb eins"
    assert seen["at one o'clock"] == "um ein Uhr"
    assert seen["at a quarter past one"] == "um Viertel nach eins"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("er sah den Hund, der schläft,", "Er sah den Hund, der schläft."),
        ("sah er den Hund, der schläft,?", "Sah er den Hund, der schläft?"),
        ("der Hund, der schläft,, weil es regnet", "Der Hund, der schläft, weil es regnet."),
    ],
)
def test_commas_are_merged_when_a_sentence_is_written(text: str, expected: str) -> None:
    assert written(text) == expected
