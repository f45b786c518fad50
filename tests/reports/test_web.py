"""results/index.html: complete by itself, the same verdicts as the table, and it works."""

import html
import re
import shutil
from pathlib import Path

import pytest

from normlab.reports.benchmarks import ratio
from normlab.reports.claims import Effect, read_claims
from normlab.reports.experiments import read_experiments
from normlab.reports.speed import pooled
from normlab.reports.web import CHARTS, _charts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def page():
    return ROOT / "results" / "index.html"


def test_its_verdicts_are_those_of_the_table():
    claims = read_claims(read_experiments(ROOT / "experiments"), ROOT / "results")
    table = (ROOT / "results" / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in table.split("\n") if line.count(" | ") == 6]
    found = [(row[0][2:], row[1], row[2].strip("*")) for row in rows if "**" in row[2]]
    assert found == [(claim.item, claim.words, claim.verdict) for claim in claims]


def test_a_card_shows_the_evidence_that_the_table_does(page):
    claims = read_claims(read_experiments(ROOT / "experiments"), ROOT / "results")
    shown = html.unescape(page.read_text(encoding="utf-8"))
    with_effect = [claim for claim in claims if claim.effect]
    assert with_effect
    for claim in with_effect:
        assert f"{claim.evidence}; {claim.effect.grey}</p>" in shown, claim.words


def test_the_band_of_reaches_is_on_the_worse_side():
    claims = read_claims(read_experiments(ROOT / "experiments"), ROOT / "results")
    bands = {c.effect.band for c in claims if c.effect and c.effect.grey.startswith("grey: worse")}
    assert (-0.8, 0.0) in bands  # Table 7, recall
    assert (0.0, 3.0) in bands  # Table 6, error


def test_a_bar_counts_a_benchmark_with_its_repeat():
    benchmarks = ROOT / "results" / "benchmarks"
    both, first, repeat = pooled(benchmarks / f"{CHARTS[0]}.json")
    (record,), (one,), (other,) = both["records"], first["records"], repeat["records"]
    assert record["processes"] == one["processes"] + other["processes"]
    _, _, bars = _charts(benchmarks)[0]
    assert bars
    for bar in bars:
        assert bar.share == ratio(record, bar.name, record["baseline"]).median


def test_it_needs_nothing_else(page):
    source = page.read_text(encoding="utf-8")
    loaded = re.findall(r'\b(?:src|srcset)="([^"]*)"', source)
    loaded += re.findall(r"url\(([^)]*)\)", source)
    assert loaded and all(each.startswith("data:image/png;base64,") for each in loaded)
    assert all(each not in source for each in ("<script src", 'rel="stylesheet"', "@import"))
    for link in re.findall(r'href="([^"]*)"', source):
        assert link.startswith(("https://arxiv.org/", "data:")) or (page.parent / link).exists()


def test_an_effect_lies_within_its_plot():
    effect = Effect("a : b", 0.9, 0.8, 0.95, none=1.0, band=(0.99, 1.02), grey="")
    places = [effect.place(value) for value in (0.8, 0.9, 0.95, 0.99, 1.0, 1.02)]
    assert places == sorted(places) and places[0] > 0 and places[-1] < 100
    assert Effect("", 1.0, 1.0, 1.0, 1.0, (1.0, 1.0), "").place(1.0) == 50


@pytest.fixture(scope="module")
def browser():
    selenium = pytest.importorskip("selenium.webdriver")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium")
    options = selenium.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = selenium.Chrome(options, selenium.ChromeService(driver))
    yield started
    started.quit()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 400], ids=["desk", "phone"])
def test_it_works_in_a_browser(page, browser, width):
    browser.set_window_size(width, 900)
    browser.get(page.as_uri())
    run = browser.execute_script
    assert not browser.get_log("browser")
    run("document.querySelectorAll('img').forEach(each => each.loading = 'eager')")
    assert run("return Promise.all([...document.images].map(each => each.decode())).then(() => 1)")
    assert run("return [...document.images].every(each => each.naturalWidth > 100)")
    assert run("return document.documentElement.scrollWidth <= window.innerWidth")

    shown = "return [...document.querySelectorAll('.card:not([hidden])')].map(each => each.dataset"
    everything = run(f"{shown}.verdict)")
    for button in browser.find_elements("css selector", "button[data-verdict]"):
        button.click()
        wanted = button.get_attribute("data-verdict")
        found = run(f"{shown}.verdict)")
        assert set(found) == {wanted} and len(found) == everything.count(wanted)
        button.click()
    choice = "const s = document.getElementById('item'); s.value = arguments[0];"
    run(choice + "s.dispatchEvent(new Event('change'))", "Table 4")
    assert set(run(f"{shown}.item)")) == {"Table 4"}
    run(choice + "s.dispatchEvent(new Event('change'))", "")
    assert run(f"{shown}.verdict)") == everything
