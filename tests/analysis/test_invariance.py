"""Table 1: every norm's invariances, for all positive factors, and the paper's marks."""

import csv
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normlab.analysis import invariance
from normlab.analysis.invariance import CHANGES, EXACT, PAPER, residuals
from normlab.paths import CONF
from normlab.runs.components import stock_norms

MATRIX, CENTRE, VECTOR, DATA, SHIFT, CASE, POSITION = CHANGES
NORMS = stock_norms(eps=0.0)
INVARIANT = {
    "affine": set(),
    "batchnorm": {MATRIX, VECTOR, DATA, SHIFT},
    "crmsnorm": {MATRIX, DATA, CASE, POSITION},
    "dyt": set(),
    "groupnorm": {MATRIX, DATA, CASE},
    "instancenorm": {MATRIX, VECTOR, DATA, SHIFT, CASE},
    "l2norm": {MATRIX, DATA, CASE, POSITION},
    "layernorm": {MATRIX, CENTRE, DATA, CASE, POSITION},
    "none": set(),
    "prmsnorm": {MATRIX, DATA, CASE, POSITION},
    "recentre": {CENTRE},
    "rmsnorm": {MATRIX, DATA, CASE, POSITION},
    "scalenorm": {MATRIX, DATA, CASE, POSITION},
    "weightnorm": {MATRIX, VECTOR},
}


def marks():
    path = Path(__file__).parents[2] / "experiments/table1/paper.csv"
    lines = [line for line in path.read_text("utf-8").split("\n") if line[:1] not in ("#", "")]
    return {row["method"]: row for row in csv.DictReader(lines)}


@pytest.fixture(scope="module")
def measured():
    return {name: residuals(norm) for name, norm in NORMS.items()}


def test_every_norm_of_the_config_has_its_properties_listed_here():
    assert NORMS.keys() == INVARIANT.keys()


def test_the_table_of_norms_has_each_with_its_invariances():
    text = (Path(__file__).parents[2] / "conf/README.md").read_text("utf-8")
    table = text.partition("## Norms")[2].partition("\n¹")[0]
    rows = [line.split(" | ") for line in table.split("\n") if line.startswith("| `")]
    said = {name: row for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert said.keys() == {path.stem for path in (CONF / "norm").glob("*.yaml")}
    for name, kept in INVARIANT.items():
        centre, scale = said[name][4], said[name][5]
        assert centre.startswith("yes") == (CENTRE in kept), name
        assert scale.startswith("yes") == (MATRIX in kept), name
        assert ("one unit" in scale) == (VECTOR in kept), name


@pytest.mark.parametrize("name", INVARIANT)
@given(delta=st.one_of(st.floats(0.01, 0.7), st.floats(1.5, 1000)), seed=st.integers(0, 10**6))
@settings(max_examples=15)
def test_what_is_invariant_is_so_for_every_factor_and_what_is_not_moves(name, delta, seed):
    found = residuals(NORMS[name], delta, seed)
    for change in CHANGES:
        if change in INVARIANT[name]:
            assert found[change] < EXACT, change
        else:
            assert found[change] > 1e-4, change


def test_the_papers_marks_agree(measured):
    assert invariance.disagreements(measured, marks()) == []
    assert len(marks()) * len(PAPER) == 30


def test_a_disagreement_is_found(measured):
    wrong = {"layernorm": {**marks()["layernorm"], "dataset_recentering": "1"}}
    assert invariance.disagreements(measured, wrong) == [("layernorm", SHIFT)]
    assert f"- not so: layernorm, {SHIFT}" in invariance.page(measured, {}, wrong)


def test_the_claim_is_about_rmsnorm_and_fails_with_its_properties(measured):
    assert invariance.claim(measured)[0]
    assert not invariance.claim({"rmsnorm": measured["layernorm"]})[0]
    assert not invariance.claim({"rmsnorm": measured["none"]})[0]


def test_the_committed_page_is_what_the_code_measures(measured):
    path = Path(__file__).parents[2] / "results/table1/invariance.md"
    page = invariance.page(measured, invariance.eps_matters(stock_norms()), marks())
    assert path.read_text(encoding="utf-8") == page
