"""The lexicon as text, and the classes that its nouns, adjectives and verbs are read into."""

import re
from typing import NamedTuple

# ---- Lexicon. Entries end with ";", a blank in a phrase is "_" ---------------------------------
# Nouns: English[/plural] German gender plural [English/German preposition of place]; "m*" is the
# weak masculine declension (den Studenten), whose other singular cases look like the plural.
NOUN_ENTRIES = {
    "person": """man/men Mann m Männer; woman/women Frau f Frauen; child/children Kind n Kinder; boy
        Junge m* Jungen; girl Mädchen n Mädchen; teacher Lehrer m Lehrer; doctor Arzt m Ärzte;
        student Student m* Studenten; pupil Schüler m Schüler; farmer Bauer m* Bauern; baker Bäcker
        m Bäcker; gardener Gärtner m Gärtner; painter Maler m Maler; neighbour Nachbar m* Nachbarn;
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
    "animal": """dog Hund m Hunde; cat Katze f Katzen; horse Pferd n Pferde; bird Vogel m Vögel; cow
        Kuh f Kühe; mouse/mice Maus f Mäuse; fox Fuchs m Füchse; bear Bär m* Bären; elephant Elefant
        m* Elefanten; monkey Affe m* Affen; goat Ziege f Ziegen; duck Ente f Enten; lion Löwe m*
        Löwen; pig Schwein n Schweine; snake Schlange f Schlangen; frog Frosch m Frösche; rabbit
        Kaninchen n Kaninchen; wolf/wolves Wolf m Wölfe; donkey Esel m Esel""",
    "thing": """table Tisch m Tische; chair Stuhl m Stühle; lamp Lampe f Lampen; bed Bett n Betten;
        cupboard Schrank m Schränke; window Fenster n Fenster; door Tür f Türen; key Schlüssel m
        Schlüssel; bag Tasche f Taschen; suitcase Koffer m Koffer; umbrella Regenschirm m
        Regenschirme; clock Uhr f Uhren; car Auto n Autos; bicycle Fahrrad n Fahrräder; boat Boot n
        Boote; ball Ball m Bälle; doll Puppe f Puppen; coat Mantel m Mäntel; shirt Hemd n Hemden;
        hat Hut m Hüte; dress Kleid n Kleider; ring Ring m Ringe; picture Bild n Bilder; mirror
        Spiegel m Spiegel; cup Tasse f Tassen; plate Teller m Teller; bottle Flasche f Flaschen;
        knife/knives Messer n Messer; spoon Löffel m Löffel; fork Gabel f Gabeln; basket Korb m
        Körbe; computer Computer m Computer; phone Telefon n Telefone; camera Kamera f Kameras;
        guitar Gitarre f Gitarren; piano/pianos Klavier n Klaviere; stone Stein m Steine; flower
        Blume f Blumen; tree Baum m Bäume; box Kiste f Kisten; candle Kerze f Kerzen; blanket Decke
        f Decken; pen Stift m Stifte; gift Geschenk n Geschenke; ladder Leiter f Leitern; machine
        Maschine f Maschinen; coin Münze f Münzen; jacket Jacke f Jacken; pillow Kissen n Kissen;
        carpet Teppich m Teppiche; tool Werkzeug n Werkzeuge; radio/radios Radio n Radios""",
    "food": """apple Apfel m Äpfel; pear Birne f Birnen; cake Kuchen m Kuchen; egg Ei n Eier;
        potato/potatoes Kartoffel f Kartoffeln; tomato/tomatoes Tomate f Tomaten; soup Suppe f
        Suppen; sausage Wurst f Würste; cherry Kirsche f Kirschen; onion Zwiebel f Zwiebeln; nut
        Nuss f Nüsse; lemon Zitrone f Zitronen; pancake Pfannkuchen m Pfannkuchen; salad Salat m
        Salate; mushroom Pilz m Pilze; strawberry Erdbeere f Erdbeeren; roll Brötchen n Brötchen""",
    "text": """book Buch n Bücher; letter Brief m Briefe; newspaper Zeitung f Zeitungen; poem
        Gedicht n Gedichte; story Geschichte f Geschichten; novel Roman m Romane; message Nachricht
        f Nachrichten; article Artikel m Artikel; contract Vertrag m Verträge; sentence Satz m
        Sätze; list Liste f Listen; recipe Rezept n Rezepte; song Lied n Lieder; postcard Postkarte
        f Postkarten; word Wort n Wörter""",
    "place": """garden Garten m Gärten in/in; kitchen Küche f Küchen in/in; school Schule f Schulen
        in/in; city Stadt f Städte in/in; village Dorf n Dörfer in/in; forest Wald m Wälder in/in;
        museum Museum n Museen in/in; library Bibliothek f Bibliotheken in/in; lake See m Seen
        at/an; station Bahnhof m Bahnhöfe at/an; market Markt m Märkte at/auf; bridge Brücke f
        Brücken on/auf; roof Dach n Dächer on/auf; island Insel f Inseln on/auf; mountain Berg m
        Berge on/auf; river Fluss m Flüsse at/an; beach Strand m Strände at/an; church Kirche f
        Kirchen in/in; restaurant Restaurant n Restaurants in/in; hotel Hotel n Hotels in/in; office
        Büro n Büros in/in; room Zimmer n Zimmer in/in; house Haus n Häuser in/in; castle Schloss n
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
    "any": """old:older alt:älter; small:smaller klein:kleiner; big:bigger groß:größer; ugly
        hässlich; beautiful:more_beautiful schön:schöner; strange seltsam; famous:more_famous
        berühmt:berühmter""",
    "person": """young:younger jung:jünger; tired müde:müder:müd; happy:happier
        glücklich:glücklicher; sad traurig; rich:richer reich:reicher; poor:poorer arm:ärmer;
        friendly freundlich; angry wütend; clever:cleverer klug:klüger; brave:braver mutig:mutiger;
        lazy:lazier faul:fauler; blind blind; strong:stronger stark:stärker; weak:weaker
        schwach:schwächer; hungry hungrig; polite höflich; nervous nervös; curious neugierig; proud
        stolz; patient:more_patient geduldig:geduldiger""",
    "animal": """wild wild; tame zahm; dangerous:more_dangerous gefährlich:gefährlicher; fast:faster
        schnell:schneller; slow:slower langsam:langsamer; fat:fatter dick:dicker; brown braun""",
    "thing": """new:newer neu:neuer; heavy:heavier schwer:schwerer; cheap:cheaper billig:billiger;
        expensive:more_expensive teuer:teurer:teur; dirty schmutzig; clean sauber; round rund; wet
        nass; long:longer lang:länger; empty leer; modern modern; valuable:more_valuable
        wertvoll:wertvoller; red rot; blue blau; green grün; yellow gelb; black schwarz; white weiß;
        grey grau; useful nützlich""",
    "food": """fresh frisch; sweet:sweeter süß:süßer; sour sauer:saurer:saur; hot heiß; cold
        kalt:kälter; expensive teuer:teurer:teur; salty salzig; dry trocken; hard hart; soft
        weich""",
    "text": """interesting:more_interesting interessant:interessanter; important wichtig; secret
        geheim; boring:more_boring langweilig:langweiliger; funny lustig; difficult schwierig;
        simple einfach; short:shorter kurz:kürzer; long:longer lang:länger; new neu""",
    "place": """dark:darker dunkel:dunkler:dunkl; quiet ruhig; loud laut; empty leer; new neu; warm
        warm; cold kalt; modern modern; dirty schmutzig; famous berühmt""",
}
# Verbs: English [past participle] = German [er-present er-past participle] [: needs].
# "|" parts a separable prefix, "*" takes sein, "sich_" is reflexive; missing forms are regular.
VERB_ENTRIES = {
    "intransitive": """sleep slept slept = schlafen schläft schlief geschlafen; work = arbeiten;
        laugh = lachen; cry = weinen; dance = tanzen; sing sang sung = singen singt sang gesungen;
        dream = träumen; cough = husten; wait = warten; swim swam swum = schwimmen* schwimmt schwamm
        geschwommen; fall_asleep fell fallen = ein|schlafen* schläft schlief geschlafen; hesitate =
        zögern; get_up got got = auf|stehen* steht stand gestanden; arrive = an|kommen* kommt kam
        gekommen; wake_up woke woken = auf|wachen*; come_back came come = zurück|kommen* kommt kam
        gekommen; depart = ab|reisen*; give_up gave given = auf|geben gibt gab gegeben; stumble =
        stolpern*; go_shopping went gone = ein|kaufen; die = sterben* stirbt starb gestorben""",
    "transitive": """see saw seen = sehen sieht sah gesehen : person animal thing text place; find
        found found = finden findet fand gefunden : person animal thing text; look_for = suchen :
        person thing; love = lieben : person animal food; hear heard heard = hören : person animal;
        visit = besuchen : person place; watch = beobachten : person animal; know knew known =
        kennen kennt kannte gekannt : person text place; meet met met = treffen trifft traf
        getroffen : person; invite = ein|laden lädt lud geladen : person; call = an|rufen ruft rief
        gerufen : person; fetch = ab|holen : person; greet = grüßen : person; admire = bewundern :
        person place thing; photograph = fotografieren : person animal thing place; forget forgot
        forgotten = vergessen vergisst vergaß vergessen : person thing text; draw drew drawn =
        zeichnen : person animal thing; buy bought bought = kaufen : animal thing food text;
        describe = beschreiben beschreibt beschrieb beschrieben : person animal thing place; cook =
        kochen : food; sell sold sold = verkaufen : animal thing food text; repair = reparieren :
        thing; need = brauchen : thing; carry = tragen trägt trug getragen : thing food; hide hid
        hidden = verstecken : animal thing food text; lose lost lost = verlieren verliert verlor
        verloren : thing text; order = bestellen : food thing; steal stole stolen = stehlen stiehlt
        stahl gestohlen : animal thing food; taste = probieren : food; throw_away threw thrown =
        weg|werfen wirft warf geworfen : thing food text; have had had = haben hat hatte gehabt :
        animal thing; bring_along brought brought = mit|bringen bringt brachte gebracht : thing
        food; wash = waschen wäscht wusch gewaschen : animal thing food; pack = ein|packen : thing
        food; borrow = aus|leihen leiht lieh geliehen : thing text; break broke broken = zerbrechen
        zerbricht zerbrach zerbrochen : thing; choose chose chosen = aus|wählen : thing food text;
        open = auf|machen : openable; close = zu|machen : openable; turn_on = ein|schalten : device;
        turn_off = aus|schalten : device; eat ate eaten = essen isst aß gegessen : food; fry =
        braten brät briet gebraten : food; prepare = vor|bereiten bereitet bereitete bereitet :
        food; write wrote written = schreiben schreibt schrieb geschrieben : text; translate =
        übersetzen : text; explain = erklären : text; copy = ab|schreiben schreibt schrieb
        geschrieben : text; understand understood understood = verstehen versteht verstand
        verstanden : person text; burn = verbrennen verbrennt verbrannte verbrannt : text thing;
        sign = unterschreiben unterschreibt unterschrieb unterschrieben : text; correct =
        korrigieren : text""",
    "dative": """help = helfen hilft half geholfen; thank = danken; follow = folgen*; trust =
        vertrauen; answer = antworten; congratulate = gratulieren; listen_to = zu|hören; obey =
        gehorchen gehorcht gehorchte gehorcht; forgive forgave forgiven = verzeihen verzeiht verzieh
        verziehen; contradict = widersprechen widerspricht widersprach widersprochen""",
    "ditransitive": """give gave given = geben gibt gab gegeben : animal thing food text; show
        showed shown = zeigen : animal thing text; send sent sent = schicken : thing text; bring
        brought brought = bringen bringt brachte gebracht : thing food text; lend lent lent = leihen
        leiht lieh geliehen : thing text; offer = an|bieten bietet bot geboten : thing food; promise
        = versprechen verspricht versprach versprochen : animal thing""",
    "prepositional": """wait = warten : for auf acc; think thought thought = denken denkt dachte
        gedacht : of an acc; talk = sprechen spricht sprach gesprochen : about über acc; dream =
        träumen : of von dat; laugh = lachen : at über acc; look = sich_kümmern : after um acc;
        look_forward = sich_freuen : to auf acc; remember = sich_erinnern : - an acc; complain =
        sich_beschweren : about über acc; fight fought fought = kämpfen : against gegen acc; ask =
        bitten bittet bat gebeten : for um acc; fall_in_love fell fallen = sich_verlieben : with in
        acc""",
    "motion": """go went gone = gehen* geht ging gegangen; run ran run = laufen* läuft lief
        gelaufen; hurry = eilen*; drive drove driven = fahren* fährt fuhr gefahren; fly flew flown =
        fliegen* fliegt flog geflogen; travel travelled travelled = reisen*; come came come =
        kommen* kommt kam gekommen; hike = wandern*; ride rode ridden = reiten* reitet ritt
        geritten; return = zurück|kehren*""",
    "location": """live = wohnen; sit sat sat = sitzen sitzt saß gesessen; stay = bleiben* bleibt
        blieb geblieben; play = spielen; stand stood stood = stehen steht stand gestanden; lie lay
        lain = liegen liegt lag gelegen""",
    "placement": """place = stellen; push = schieben schiebt schob geschoben; pull = ziehen zieht
        zog gezogen; throw threw thrown = werfen wirft warf geworfen; hang hung hung = hängen""",
    "that": """say said said = sagen; think thought thought = denken denkt dachte gedacht; know knew
        known = wissen weiß/weiß wusste gewusst; believe = glauben; hope = hoffen; claim =
        behaupten; suspect = vermuten; hear heard heard = hören; notice = bemerken; forget forgot
        forgotten = vergessen vergisst vergaß vergessen""",
    "whether": """ask = fragen; wonder = sich_fragen; know knew known = wissen weiß/weiß wusste
        gewusst""",
    "to": """try = versuchen; hope = hoffen; decide = beschließen beschließt beschloss beschlossen;
        promise = versprechen verspricht versprach versprochen; forget forgot forgotten = vergessen
        vergisst vergaß vergessen; begin began begun = beginnen beginnt begann begonnen; plan
        planned planned = planen; refuse = sich_weigern""",
    "other": """be was been = sein* bin/ist war gewesen; rain = regnen; snow = schneien; cost cost
        cost = kosten""",
}
NAMES = ["Anna", "Peter", "Maria", "Robert", "Julia", "Paul", "Laura", "Martin", "Sophie", "Jan"]
NAMES += ["Clara", "David", "Eva", "Jakob", "Emma", "Emil", "Lena", "Simon", "Nina", "Oskar"]
PHRASE_ENTRIES = {
    "city": """Berlin Berlin; Munich München; Cologne Köln; Vienna Wien; Zurich Zürich; Prague Prag;
        Rome Rom; Warsaw Warschau; Moscow Moskau; Lisbon Lissabon; Geneva Genf; Venice Venedig;
        Milan Mailand; Paris Paris; Hamburg Hamburg; Italy Italien; France Frankreich; Germany
        Deutschland; Austria Österreich; Poland Polen; Greece Griechenland; Spain Spanien; Norway
        Norwegen; Hungary Ungarn""",
    "weekday": """Monday Montag; Tuesday Dienstag; Thursday Donnerstag; Friday Freitag; Sunday
        Sonntag""",
    "past": """yesterday gestern; last_week letzte_Woche; last_year letztes_Jahr; last_summer
        letzten_Sommer; in_the_evening am_Abend; that_day an_diesem_Tag; last_night letzte_Nacht;
        then dann""",
    "present": """today heute; now jetzt; every_day jeden_Tag; in_the_morning am_Morgen;
        at_the_weekend am_Wochenende; every_evening jeden_Abend; at_night in_der_Nacht; this_week
        diese_Woche; then dann""",
    "perfect": "today heute; this_week diese_Woche; this_year dieses_Jahr",
    "future": """tomorrow morgen; next_week nächste_Woche; next_year nächstes_Jahr; soon bald; today
        heute""",
    "often": """often oft; always immer; never nie; sometimes manchmal; rarely selten; usually
        meistens; still noch_immer""",
    "perfect_often": "already schon; never nie; often oft",
    "manner": """slowly langsam; quickly schnell; quietly leise; loudly laut; carefully vorsichtig;
        secretly heimlich; patiently geduldig; alone allein; politely höflich; immediately
        sofort""",
    "degree": "very sehr; too zu; quite ziemlich; really wirklich",
    "spot": "on auf; under unter; behind hinter; in_front_of vor; next_to neben",
    "why": "why warum; when wann; where wo; how_often wie_oft",
    "past_while": """because weil; although obwohl; when als; while während; before bevor; until
        bis; as_soon_as sobald""",
    "present_while": """because weil; although obwohl; if wenn; while während; before bevor; until
        bis""",
    "future_while": "if wenn; as_soon_as sobald; because weil; before bevor",
    "ones": """zero null; one ein; two zwei; three drei; four vier; five fünf; six sechs; seven
        sieben; eight acht; nine neun; ten zehn; eleven elf; twelve zwölf; thirteen dreizehn;
        fourteen vierzehn; fifteen fünfzehn; sixteen sechzehn; seventeen siebzehn; eighteen
        achtzehn; nineteen neunzehn""",
    "tens": """- -; - -; twenty zwanzig; thirty dreißig; forty vierzig; fifty fünfzig; sixty
        sechzig; seventy siebzig; eighty achtzig; ninety neunzig""",
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
TAKERS = {kind: [v for v in VERB_LISTS["transitive"] if kind in v.needs] for kind in NOUN_ENTRIES}
