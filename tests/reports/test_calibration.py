"""Verdicts under no effect: residuals that were observed here, divergences included, are resampled.

Each imagined table has arms that are all alike, and a diverged run now and then. Whatever verdict
calls one of them better, or an equality false, is false.
"""

import math
from pathlib import Path

import numpy as np
import pytest

from normlab.registration import Hypothesis, Registration
from normlab.reports.exploratory import read_earlier
from normlab.reports.power import paired_residuals
from normlab.reports.statistics import estimate
from normlab.reports.verdicts import judge

RESULTS = Path(__file__).parents[2] / "results"
SEEDS, TABLES, ARMS = 6, 1000, ["none", "layernorm", "rmsnorm", "prmsnorm"]
SOURCES = [
    pytest.param("figure4/multi30k", "dev/nll", marks=pytest.mark.long),
    pytest.param("figure4/multi30k", "best_dev", marks=pytest.mark.long),
    ("figure3/multi30k", "test/bleu"),
]


def observed(source, metric):
    """Returns the residuals of one run about the mean of its arm, both signs."""
    paired = np.array(paired_residuals(read_earlier(RESULTS, source), metric)) / math.sqrt(2)
    return np.concatenate([paired, -paired])


def observed_divergence():
    """Returns the share of all earlier runs that diverged."""
    sources = {path.parents[1] for path in RESULTS.glob("*/*/earlier/runs.csv")}
    runs = [run for s in sources for run in read_earlier(RESULTS, str(s.relative_to(RESULTS)))]
    assert len(runs) > 150
    return sum(run.diverged for run in runs) / len(runs)


def registration(margin):
    greater = [
        Hypothesis(f"g{a}", "greater", {"norm": a}, {"norm": "layernorm"}, metric="dev/nll")
        for a in ("rmsnorm", "none")
    ]
    equal = [
        Hypothesis(
            f"e{a}",
            "equal",
            {"norm": a},
            {"norm": "layernorm"},
            metric="dev/nll",
            margin=margin,
            floor=1e9,
        )
        for a in ("rmsnorm", "prmsnorm")
    ]
    return Registration(
        "t", "s", "sha", list(range(SEEDS)), "toy", grid={"norm": ARMS}, hypotheses=greater + equal
    )


def imagined(pool, diverging, shift, random):
    """Returns one table of arms without any difference but `shift`, added to all but LayerNorm."""
    values = {}
    for arm in ARMS:
        drawn = random.choice(pool, SEEDS) + shift * (arm != "layernorm")
        lost = random.random(SEEDS) < diverging
        values[(("norm", arm),)] = {
            seed: None if gone else float(value)
            for seed, (value, gone) in enumerate(zip(drawn, lost, strict=True))
        }
    return values


def false_tables(source, metric, diverging, at_margin):
    """Returns the share of tables with at least one false verdict."""
    pool = observed(source, metric)
    margin = 2 * float(np.std(pool))
    plan, random, false = registration(margin), np.random.default_rng(1), 0
    for _ in range(TABLES):
        shift = margin if at_margin else 0.0
        values = imagined(pool, diverging, shift, random)
        verdicts = judge(plan, lambda metric, v=values: v, ended=len(ARMS) * SEEDS)
        wrong = {
            # no effect: neither "greater" is true or false; a difference at the margin is not equal
            (False, "greater"): ("reproduced", "contradicted"),
            (False, "equal"): ("contradicted",),
            (True, "greater"): ("contradicted",),
            (True, "equal"): ("reproduced", "contradicted"),
        }
        rules = [each.rule for each in plan.hypotheses]
        false += any(
            v.verdict in wrong[at_margin, rule] for v, rule in zip(verdicts, rules, strict=True)
        )
    return false / TABLES


@pytest.mark.slow
@pytest.mark.parametrize(("source", "metric"), SOURCES)
def test_without_an_effect_at_most_one_table_in_twenty_has_a_false_verdict(source, metric):
    noise = 2 * math.sqrt(0.05 * 0.95 / TABLES)  # of the simulation itself
    assert false_tables(source, metric, 0.0, at_margin=False) <= 0.05 + noise
    assert false_tables(source, metric, observed_divergence(), at_margin=False) <= 0.05 + noise


@pytest.mark.slow
def test_nor_does_a_difference_that_lies_on_the_margin():
    assert false_tables("figure3/multi30k", "test/bleu", 0.0, at_margin=True) <= 0.05 + 0.011


def coverage(source, metric):
    """Returns how often the interval of six differences holds the true one, which is 0."""
    pool, random = observed(source, metric), np.random.default_rng(2)
    gaps = random.choice(pool, (10_000, SEEDS)) - random.choice(pool, (10_000, SEEDS))
    found = [estimate(row) for row in gaps]
    return float(np.mean([each.low <= 0 <= each.high for each in found]))


@pytest.mark.parametrize(("source", "metric"), SOURCES)
def test_intervals_cover_the_true_difference_in_95_of_100_cases(source, metric):
    assert 0.94 <= coverage(source, metric) <= 0.96


def test_arms_whose_spreads_differ_tenfold_only_make_intervals_wider():
    assert 0.95 <= coverage("centre/multi30k", "dev/nll") <= 0.98
