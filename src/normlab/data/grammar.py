"""An endless English-German parallel corpus from a small synchronous grammar, without a download.

Both sides of a sentence are built together: a noun phrase knows its English words and its German
nominative, accusative and dative; a clause keeps the German verb in pieces, so that the same clause
can become a main clause (verb second), a question (verb first) or a subordinate clause (verb last).
English fixes the German: tense, number and attachment are chosen so that no English sentence has
two translations here (hence no "you", no "sheep", no "read"), and a perfect model scores BLEU 100.

The file reads upwards in size: lexicon, words, noun phrases, clauses, sentences, corpus.
"""

import random
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

# ---- Lexicon. Entries end with ";", a blank in a phrase is "_" ---------------------------------
# Nouns: English[/plural] German gender plural [English/German preposition of place]; "m*" is the
# weak masculine declension (den Studenten), whose other singular cases look like the plural.
NOUN_ENTRIES = {
    "person": """
        man/men Mann m Männer; woman/women Frau f Frauen; child/children Kind n Kinder; boy Junge m*
        Jungen; girl Mädchen n Mädchen; teacher Lehrer m Lehrer; doctor Arzt m Ärzte; student
        Student m* Studenten; pupil Schüler m Schüler; farmer Bauer m* Bauern; baker Bäcker m
        Bäcker; gardener Gärtner m Gärtner; painter Maler m Maler; neighbour Nachbar m* Nachbarn;
        friend Freund m Freunde; brother Bruder m Brüder; sister Schwester f Schwestern; mother
        Mutter f Mütter; father Vater m Väter; son Sohn m Söhne; daughter Tochter f Töchter; uncle
        Onkel m Onkel; aunt Tante f Tanten; grandmother Großmutter f Großmütter; queen Königin f
        Königinnen; king König m Könige; judge Richter m Richter; nurse Krankenschwester f
        Krankenschwestern; guest Gast m Gäste; engineer Ingenieur m Ingenieure; colleague Kollege m*
        Kollegen; tourist Tourist m* Touristen; lawyer Anwalt m Anwälte; chef Koch m Köche; soldier
        Soldat m* Soldaten; baby Baby n Babys; actress Schauspielerin f Schauspielerinnen; author
        Autor m Autoren; thief/thieves Dieb m Diebe; mayor Bürgermeister m Bürgermeister; customer
        Kunde m* Kunden; witness Zeuge m* Zeugen; hunter Jäger m Jäger; driver Fahrer m Fahrer;
        professor Professor m Professoren""",
    "animal": """
        dog Hund m Hunde; cat Katze f Katzen; horse Pferd n Pferde; bird Vogel m Vögel; cow Kuh f
        Kühe; mouse/mice Maus f Mäuse; fox Fuchs m Füchse; bear Bär m* Bären; elephant Elefant m*
        Elefanten; monkey Affe m* Affen; goat Ziege f Ziegen; duck Ente f Enten; lion Löwe m* Löwen;
        pig Schwein n Schweine; snake Schlange f Schlangen; frog Frosch m Frösche; rabbit Kaninchen
        n Kaninchen; wolf/wolves Wolf m Wölfe; donkey Esel m Esel""",
    "thing": """
        table Tisch m Tische; chair Stuhl m Stühle; lamp Lampe f Lampen; bed Bett n Betten; cupboard
        Schrank m Schränke; window Fenster n Fenster; door Tür f Türen; key Schlüssel m Schlüssel;
        bag Tasche f Taschen; suitcase Koffer m Koffer; umbrella Regenschirm m Regenschirme; clock
        Uhr f Uhren; car Auto n Autos; bicycle Fahrrad n Fahrräder; boat Boot n Boote; ball Ball m
        Bälle; doll Puppe f Puppen; coat Mantel m Mäntel; shirt Hemd n Hemden; hat Hut m Hüte; dress
        Kleid n Kleider; ring Ring m Ringe; picture Bild n Bilder; mirror Spiegel m Spiegel; cup
        Tasse f Tassen; plate Teller m Teller; bottle Flasche f Flaschen; knife/knives Messer n
        Messer; spoon Löffel m Löffel; fork Gabel f Gabeln; basket Korb m Körbe; computer Computer m
        Computer; phone Telefon n Telefone; camera Kamera f Kameras; guitar Gitarre f Gitarren;
        piano/pianos Klavier n Klaviere; stone Stein m Steine; flower Blume f Blumen; tree Baum m
        Bäume; box Kiste f Kisten; candle Kerze f Kerzen; blanket Decke f Decken; pen Stift m
        Stifte; gift Geschenk n Geschenke; ladder Leiter f Leitern; machine Maschine f Maschinen;
        coin Münze f Münzen; jacket Jacke f Jacken; pillow Kissen n Kissen; carpet Teppich m
        Teppiche; tool Werkzeug n Werkzeuge; radio/radios Radio n Radios""",
    "food": """
        apple Apfel m Äpfel; pear Birne f Birnen; cake Kuchen m Kuchen; egg Ei n Eier;
        potato/potatoes Kartoffel f Kartoffeln; tomato/tomatoes Tomate f Tomaten; soup Suppe f
        Suppen; sausage Wurst f Würste; cherry Kirsche f Kirschen; onion Zwiebel f Zwiebeln; nut
        Nuss f Nüsse; lemon Zitrone f Zitronen; pancake Pfannkuchen m Pfannkuchen; salad Salat m
        Salate; mushroom Pilz m Pilze; strawberry Erdbeere f Erdbeeren; roll Brötchen n Brötchen""",
    "text": """
        book Buch n Bücher; letter Brief m Briefe; newspaper Zeitung f Zeitungen; poem Gedicht n
        Gedichte; story Geschichte f Geschichten; novel Roman m Romane; message Nachricht f
        Nachrichten; article Artikel m Artikel; contract Vertrag m Verträge; sentence Satz m Sätze;
        list Liste f Listen; recipe Rezept n Rezepte; song Lied n Lieder; postcard Postkarte f
        Postkarten; word Wort n Wörter""",
    "place": """
        garden Garten m Gärten in/in; kitchen Küche f Küchen in/in; school Schule f Schulen in/in;
        city Stadt f Städte in/in; village Dorf n Dörfer in/in; forest Wald m Wälder in/in; museum
        Museum n Museen in/in; library Bibliothek f Bibliotheken in/in; lake See m Seen at/an;
        station Bahnhof m Bahnhöfe at/an; market Markt m Märkte at/auf; bridge Brücke f Brücken
        on/auf; roof Dach n Dächer on/auf; island Insel f Inseln on/auf; mountain Berg m Berge
        on/auf; river Fluss m Flüsse at/an; beach Strand m Strände at/an; church Kirche f Kirchen
        in/in; restaurant Restaurant n Restaurants in/in; hotel Hotel n Hotels in/in; office Büro n
        Büros in/in; room Zimmer n Zimmer in/in; house Haus n Häuser in/in; castle Schloss n
        Schlösser in/in; hospital Krankenhaus n Krankenhäuser in/in; theatre Theater n Theater
        in/in; park Park m Parks in/in; factory Fabrik f Fabriken in/in; bakery Bäckerei f
        Bäckereien in/in; cellar Keller m Keller in/in; valley Tal n Täler in/in; stable Stall m
        Ställe in/in; airport Flughafen m Flughäfen at/an; square Platz m Plätze on/auf; tower Turm
        m Türme in/in; border Grenze f Grenzen at/an""",
}
NOUN_GROUPS = {  # nouns named again because a verb asks for them
    "openable": "door window suitcase cupboard bag box bottle",
    "device": "lamp computer machine camera radio",
    "worn": "hat coat umbrella bag suitcase jacket guitar basket dog ring",
    "furniture": "table chair bed cupboard tree door window car mirror basket box",
}
# Adjectives: English[:comparative] German[:comparative[:stem before an ending]].
ADJECTIVE_ENTRIES = {
    "any": """
        old:older alt:älter; small:smaller klein:kleiner; big:bigger groß:größer; ugly hässlich;
        beautiful:more_beautiful schön:schöner; strange seltsam; famous:more_famous
        berühmt:berühmter""",
    "person": """
        young:younger jung:jünger; tired müde:müder:müd; happy:happier glücklich:glücklicher; sad
        traurig; rich:richer reich:reicher; poor:poorer arm:ärmer; friendly freundlich; angry
        wütend; clever:cleverer klug:klüger; brave:braver mutig:mutiger; lazy:lazier faul:fauler;
        blind blind; strong:stronger stark:stärker; weak:weaker schwach:schwächer; hungry hungrig;
        polite höflich; nervous nervös; curious neugierig; proud stolz; patient:more_patient
        geduldig:geduldiger""",
    "animal": """
        wild wild; tame zahm; dangerous:more_dangerous gefährlich:gefährlicher; fast:faster
        schnell:schneller; slow:slower langsam:langsamer; fat:fatter dick:dicker; brown braun""",
    "thing": """
        new:newer neu:neuer; heavy:heavier schwer:schwerer; cheap:cheaper billig:billiger;
        expensive:more_expensive teuer:teurer:teur; dirty schmutzig; clean sauber; round rund; wet
        nass; long:longer lang:länger; empty leer; modern modern; valuable:more_valuable
        wertvoll:wertvoller; red rot; blue blau; green grün; yellow gelb; black schwarz; white weiß;
        grey grau; useful nützlich""",
    "food": """
        fresh frisch; sweet:sweeter süß:süßer; sour sauer:saurer:saur; hot heiß; cold kalt:kälter;
        expensive teuer:teurer:teur; salty salzig; dry trocken; hard hart; soft weich""",
    "text": """
        interesting:more_interesting interessant:interessanter; important wichtig; secret geheim;
        boring:more_boring langweilig:langweiliger; funny lustig; difficult schwierig; simple
        einfach; short:shorter kurz:kürzer; long:longer lang:länger; new neu""",
    "place": """
        dark:darker dunkel:dunkler:dunkl; quiet ruhig; loud laut; empty leer; new neu; warm warm;
        cold kalt; modern modern; dirty schmutzig; famous berühmt""",
}
# Verbs: English [past participle] = German [er-present er-past participle] [: needs].
# "|" parts a separable prefix, "*" takes sein, "sich_" is reflexive; missing forms are regular.
VERB_ENTRIES = {
    "intransitive": """
        sleep slept slept = schlafen schläft schlief geschlafen; work = arbeiten; laugh = lachen;
        cry = weinen; dance = tanzen; sing sang sung = singen singt sang gesungen; dream = träumen;
        cough = husten; wait = warten; swim swam swum = schwimmen* schwimmt schwamm geschwommen;
        fall_asleep fell fallen = ein|schlafen* schläft schlief geschlafen; hesitate = zögern;
        get_up got got = auf|stehen* steht stand gestanden; arrive = an|kommen* kommt kam gekommen;
        wake_up woke woken = auf|wachen*; come_back came come = zurück|kommen* kommt kam gekommen;
        depart = ab|reisen*; give_up gave given = auf|geben gibt gab gegeben; stumble = stolpern*;
        go_shopping went gone = ein|kaufen; die = sterben* stirbt starb gestorben""",
    "transitive": """
        see saw seen = sehen sieht sah gesehen : person animal thing text place; find found found =
        finden findet fand gefunden : person animal thing text; look_for = suchen : person thing;
        love = lieben : person animal food; hear heard heard = hören : person animal; visit =
        besuchen : person place; watch = beobachten : person animal; know knew known = kennen kennt
        kannte gekannt : person text place; meet met met = treffen trifft traf getroffen : person;
        invite = ein|laden lädt lud geladen : person; call = an|rufen ruft rief gerufen : person;
        fetch = ab|holen : person; greet = grüßen : person; admire = bewundern : person place thing;
        photograph = fotografieren : person animal thing place; forget forgot forgotten = vergessen
        vergisst vergaß vergessen : person thing text; draw drew drawn = zeichnen : person animal
        thing; buy bought bought = kaufen : animal thing food text; describe = beschreiben
        beschreibt beschrieb beschrieben : person animal thing place; cook = kochen : food; sell
        sold sold = verkaufen : animal thing food text; repair = reparieren : thing; need = brauchen
        : thing; carry = tragen trägt trug getragen : thing food; hide hid hidden = verstecken :
        animal thing food text; lose lost lost = verlieren verliert verlor verloren : thing text;
        order = bestellen : food thing; steal stole stolen = stehlen stiehlt stahl gestohlen :
        animal thing food; taste = probieren : food; throw_away threw thrown = weg|werfen wirft warf
        geworfen : thing food text; have had had = haben hat hatte gehabt : animal thing;
        bring_along brought brought = mit|bringen bringt brachte gebracht : thing food; wash =
        waschen wäscht wusch gewaschen : animal thing food; pack = ein|packen : thing food; borrow =
        aus|leihen leiht lieh geliehen : thing text; break broke broken = zerbrechen zerbricht
        zerbrach zerbrochen : thing; choose chose chosen = aus|wählen : thing food text; open =
        auf|machen : openable; close = zu|machen : openable; turn_on = ein|schalten : device;
        turn_off = aus|schalten : device; eat ate eaten = essen isst aß gegessen : food; fry =
        braten brät briet gebraten : food; prepare = vor|bereiten bereitet bereitete bereitet :
        food; write wrote written = schreiben schreibt schrieb geschrieben : text; translate =
        übersetzen : text; explain = erklären : text; copy = ab|schreiben schreibt schrieb
        geschrieben : text; understand understood understood = verstehen versteht verstand
        verstanden : person text; burn = verbrennen verbrennt verbrannte verbrannt : text thing;
        sign = unterschreiben unterschreibt unterschrieb unterschrieben : text; correct =
        korrigieren : text""",
    "dative": """
        help = helfen hilft half geholfen; thank = danken; follow = folgen*; trust = vertrauen;
        answer = antworten; congratulate = gratulieren; listen_to = zu|hören; obey = gehorchen
        gehorcht gehorchte gehorcht; forgive forgave forgiven = verzeihen verzeiht verzieh
        verziehen; contradict = widersprechen widerspricht widersprach widersprochen""",
    "ditransitive": """
        give gave given = geben gibt gab gegeben : animal thing food text; show showed shown =
        zeigen : animal thing text; send sent sent = schicken : thing text; bring brought brought =
        bringen bringt brachte gebracht : thing food text; lend lent lent = leihen leiht lieh
        geliehen : thing text; offer = an|bieten bietet bot geboten : thing food; promise =
        versprechen verspricht versprach versprochen : animal thing""",
    "prepositional": """
        wait = warten : for auf acc; think thought thought = denken denkt dachte gedacht : of an
        acc; talk = sprechen spricht sprach gesprochen : about über acc; dream = träumen : of von
        dat; laugh = lachen : at über acc; look = sich_kümmern : after um acc; look_forward =
        sich_freuen : to auf acc; remember = sich_erinnern : - an acc; complain = sich_beschweren :
        about über acc; fight fought fought = kämpfen : against gegen acc; ask = bitten bittet bat
        gebeten : for um acc; fall_in_love fell fallen = sich_verlieben : with in acc""",
    "motion": """
        go went gone = gehen* geht ging gegangen; run ran run = laufen* läuft lief gelaufen; hurry =
        eilen*; drive drove driven = fahren* fährt fuhr gefahren; fly flew flown = fliegen* fliegt
        flog geflogen; travel travelled travelled = reisen*; come came come = kommen* kommt kam
        gekommen; hike = wandern*; ride rode ridden = reiten* reitet ritt geritten; return =
        zurück|kehren*""",
    "location": """
        live = wohnen; sit sat sat = sitzen sitzt saß gesessen; stay = bleiben* bleibt blieb
        geblieben; play = spielen; stand stood stood = stehen steht stand gestanden; lie lay lain =
        liegen liegt lag gelegen""",
    "placement": """
        place = stellen; push = schieben schiebt schob geschoben; pull = ziehen zieht zog gezogen;
        throw threw thrown = werfen wirft warf geworfen; hang hung hung = hängen""",
    "that": """
        say said said = sagen; think thought thought = denken denkt dachte gedacht; know knew known
        = wissen weiß/weiß wusste gewusst; believe = glauben; hope = hoffen; claim = behaupten;
        suspect = vermuten; hear heard heard = hören; notice = bemerken; forget forgot forgotten =
        vergessen vergisst vergaß vergessen""",
    "whether": """
        ask = fragen; wonder = sich_fragen; know knew known = wissen weiß/weiß wusste gewusst""",
    "to": """
        try = versuchen; hope = hoffen; decide = beschließen beschließt beschloss beschlossen;
        promise = versprechen verspricht versprach versprochen; forget forgot forgotten = vergessen
        vergisst vergaß vergessen; begin began begun = beginnen beginnt begann begonnen; plan
        planned planned = planen; refuse = sich_weigern""",
    "other": """
        be was been = sein* bin/ist war gewesen; rain = regnen; snow = schneien; cost cost cost =
        kosten""",
}
NAMES = ["Anna", "Peter", "Maria", "Robert", "Julia", "Paul", "Laura", "Martin", "Sophie", "Jan"]
NAMES += ["Clara", "David", "Eva", "Jakob", "Emma", "Emil", "Lena", "Simon", "Nina", "Oskar"]
PHRASE_ENTRIES = {
    "city": """
        Berlin Berlin; Munich München; Cologne Köln; Vienna Wien; Zurich Zürich; Prague Prag; Rome
        Rom; Warsaw Warschau; Moscow Moskau; Lisbon Lissabon; Geneva Genf; Venice Venedig; Milan
        Mailand; Paris Paris; Hamburg Hamburg; Italy Italien; France Frankreich; Germany
        Deutschland; Austria Österreich; Poland Polen; Greece Griechenland; Spain Spanien; Norway
        Norwegen; Hungary Ungarn""",
    "weekday": """
        Monday Montag; Tuesday Dienstag; Thursday Donnerstag; Friday Freitag; Sunday Sonntag""",
    "past": """
        yesterday gestern; last_week letzte_Woche; last_year letztes_Jahr; last_summer
        letzten_Sommer; in_the_evening am_Abend; that_day an_diesem_Tag; last_night letzte_Nacht;
        then dann""",
    "present": """
        today heute; now jetzt; every_day jeden_Tag; in_the_morning am_Morgen; at_the_weekend
        am_Wochenende; every_evening jeden_Abend; at_night in_der_Nacht; this_week diese_Woche; then
        dann""",
    "perfect": "today heute; this_week diese_Woche; this_year dieses_Jahr",
    "future": """
        tomorrow morgen; next_week nächste_Woche; next_year nächstes_Jahr; soon bald; today
        heute""",
    "often": """
        often oft; always immer; never nie; sometimes manchmal; rarely selten; usually meistens;
        still noch_immer""",
    "perfect_often": "already schon; never nie; often oft",
    "manner": """
        slowly langsam; quickly schnell; quietly leise; loudly laut; carefully vorsichtig; secretly
        heimlich; patiently geduldig; alone allein; politely höflich; immediately sofort""",
    "degree": "very sehr; too zu; quite ziemlich; really wirklich",
    "spot": "on auf; under unter; behind hinter; in_front_of vor; next_to neben",
    "why": "why warum; when wann; where wo; how_often wie_oft",
    "past_while": """
        because weil; although obwohl; when als; while während; before bevor; until bis; as_soon_as
        sobald""",
    "present_while": """
        because weil; although obwohl; if wenn; while während; before bevor; until bis""",
    "future_while": "if wenn; as_soon_as sobald; because weil; before bevor",
    "ones": """
        zero null; one ein; two zwei; three drei; four vier; five fünf; six sechs; seven sieben;
        eight acht; nine neun; ten zehn; eleven elf; twelve zwölf; thirteen dreizehn; fourteen
        vierzehn; fifteen fünfzehn; sixteen sechzehn; seventeen siebzehn; eighteen achtzehn;
        nineteen neunzehn""",
    "tens": """
        - -; - -; twenty zwanzig; thirty dreißig; forty vierzig; fifty fünfzig; sixty sechzig;
        seventy siebzig; eighty achtzig; ninety neunzig""",
}

# ---- Words -------------------------------------------------------------------------------------
NOM, ACC, DAT = range(3)
VOWELS = "aeiou"


class Phrase(NamedTuple):
    """Words that do not inflect, in both languages."""

    en: str
    de: str


NOTHING = Phrase("", "")


class Noun(NamedTuple):
    en: tuple[str, str]  # singular, plural
    de: tuple[tuple[str, ...], tuple[str, ...]]  # the same, each (nominative, accusative, dative)
    gender: str
    preposition: Phrase
    kind: str


class Adjective(NamedTuple):
    en: str
    de: str
    stem: str
    comparative: Phrase | None


class Verb(NamedTuple):
    en: tuple[str, ...]  # base, third person, past, participle
    infinitive: str
    present: tuple[str, str, str]  # ich, er, wir/sie
    past: str
    participle: str
    prefix: str
    helper: str
    reflexive: bool
    needs: tuple[str, ...]


def entries(text: str) -> list[list[str]]:
    """The entries of a lexicon string, each a list of its words with "_" turned into a blank."""
    return [[w.replace("_", " ") for w in entry.split()] for entry in text.split(";")]


def with_s(word: str) -> str:
    """The plural of an English noun, or the third person of a verb."""
    if word.endswith("y") and word[-2] not in VOWELS:
        return word[:-1] + "ies"
    return word + ("es" if re.search("(s|x|z|ch|sh)$", word) else "s")


def read_noun(words: list[str], kind: str) -> Noun:
    english, singular, gender, plural, *place = words
    one, _, many = english.partition("/")
    weak = plural if gender.endswith("*") else singular
    dative = plural if plural[-1] in "ns" else plural + "n"
    preposition = Phrase(*place[0].split("/")) if place else NOTHING
    cases = ((singular, weak, weak), (plural, plural, dative))
    return Noun((one, many or with_s(one)), cases, gender[0], preposition, kind)


def read_adjective(words: list[str]) -> Adjective:
    en, _, en_more = words[0].partition(":")
    de, de_more, stem = [*words[1].split(":"), "", ""][:3]
    return Adjective(en, de, stem or de, Phrase(en_more, de_more) if en_more else None)


def read_verb(words: list[str]) -> Verb:
    """The verb of one entry, with every form that the entry leaves out formed regularly."""
    equals = words.index("=")
    end = words.index(":") if ":" in words else len(words)
    base, particle = [*words[0].split(" ", 1), ""][:2]
    regular = base + ("d" if base.endswith("e") else "ed")
    if base.endswith("y") and base[-2] not in VOWELS:
        regular = base[:-1] + "ied"
    past, participle = words[1:equals] or (regular, regular)
    third = "goes" if base == "go" else "has" if base == "have" else with_s(base)
    english = [join(w, particle) for w in (base, third, past, participle)]

    infinitive, *forms = words[equals + 1 : end]
    reflexive = infinitive.startswith("sich ")
    prefix, _, simple = infinitive.removeprefix("sich ").rstrip("*").rpartition("|")
    stem = simple[:-2] if simple.endswith("en") else simple[:-1]
    if not forms:
        er = stem + ("et" if re.search("([td]|chn|gn)$", stem) else "t")
        bare = simple.endswith("ieren") or re.match("be|er|ver|über", simple)
        forms = [er, er + "e", er if bare else "ge" + er]
    ich, _, er = forms[0].rpartition("/")
    present = (ich or stem + "e", er, "sind" if simple == "sein" else simple)
    helper = "sein" if infinitive.endswith("*") else "haben"
    return Verb(
        tuple(english),
        prefix + simple,
        present,
        forms[1],
        prefix + forms[2],
        prefix,
        helper,
        reflexive,
        tuple(words[end + 1 :]),
    )


def join(*parts: str) -> str:
    """The non-empty parts with blanks between them."""
    return " ".join(filter(None, parts))


NOUNS = {kind: [read_noun(e, kind) for e in entries(t)] for kind, t in NOUN_ENTRIES.items()}
NOUN = {noun.en[0]: noun for nouns in NOUNS.values() for noun in nouns}
NOUNS |= {group: [NOUN[word] for word in words.split()] for group, words in NOUN_GROUPS.items()}
ADJECTIVES = {
    kind: [read_adjective(e) for e in entries(t)] for kind, t in ADJECTIVE_ENTRIES.items()
}
ADJECTIVE = {a.en: a for adjectives in ADJECTIVES.values() for a in adjectives}
VERBS = {f: {v.en[0]: v for v in map(read_verb, entries(t))} for f, t in VERB_ENTRIES.items()}
VERB_LISTS = {frame: list(verbs.values()) for frame, verbs in VERBS.items()}
PHRASES = {kind: [Phrase(*e) for e in entries(text)] for kind, text in PHRASE_ENTRIES.items()}

# ---- Noun phrases ------------------------------------------------------------------------------


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
CONTRACTIONS = {"in dem": "im", "an dem": "am", "von dem": "vom", "zu dem": "zum",
                "zu der": "zur", "in das": "ins"}  # fmt: skip


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


# ---- Clauses -----------------------------------------------------------------------------------
# German compound tenses: (auxiliary or "" for haben/sein, auxiliary in the past, with participle).
COMPOUND = {
    "perfect": ("", False, True), "pluperfect": ("", True, True),
    "future": ("werden", False, False),
    "passive": ("werden", False, True), "passive past": ("werden", True, True),
    "can": ("können", False, False), "could": ("können", True, False),
    "should": ("sollen", True, False), "want": ("wollen", False, False),
    "wanted": ("wollen", True, False), "have to": ("müssen", False, False),
    "had to": ("müssen", True, False)
}  # fmt: skip
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
    "future": ["future"]
}  # fmt: skip
TIMES = {tense: group for group, tenses in GROUPS.items() for tense in tenses}
BELOW = {
    "present": ["present", "present", "can", "want", "have to", "perfect"],
    "past": ["past", "past", "past", "could", "wanted", "had to"],
    "perfect": ["present", "past"],
    "future": ["present"]
}  # fmt: skip


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
    middle = join(reflexive, slots["pronoun"], slots["definite"], time.de, often.de, negation,
                  manner.de, place.de, slots["indefinite"], complement.de)  # fmt: skip
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


# ---- Random phrases and clauses ----------------------------------------------------------------
Rng = random.Random


def random_noun_phrase(
    rng: Rng, kind: str, *, negated: bool = False, plural: bool | None = None
) -> NounPhrase:
    """A noun of the kind with a determiner and up to two adjectives."""
    plural = rng.random() < 0.3 if plural is None else plural
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


TAKERS = {kind: [v for v in VERB_LISTS["transitive"] if kind in v.needs] for kind in NOUN_ENTRIES}


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


UNITS = [Phrase("days", "Tagen"), Phrase("weeks", "Wochen"), Phrase("months", "Monaten"),
         Phrase("years", "Jahren")]  # fmt: skip


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


# ---- Sentences ---------------------------------------------------------------------------------
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
    person = rng.choice([name(rng.choice(NAMES)), rng.choice(SUBJECT_PRONOUNS),
                         random_noun_phrase(rng, "person")])  # fmt: skip
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
        subject = rng.choice([name(rng.choice(NAMES)), random_noun_phrase(rng, "person"),
                              rng.choice(SUBJECT_PRONOUNS)])  # fmt: skip
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


# ---- Corpus ------------------------------------------------------------------------------------
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
