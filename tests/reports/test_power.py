"""Power: what grows it, and that what is registered is what the simulation gives."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from processes import script

from normlab.errors import UserError
from normlab.registration import Hypothesis, Registration, read_registrations
from normlab.reports import power as module
from normlab.reports.power import observed_residuals, power

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
GAIN = Hypothesis(
    "c",
    "greater",
    {"norm": "a"},
    {"norm": "b"},
    metric="dev/nll",
    expected=0.05,
    spread="figure4/multi30k dev/nll",
)


def plan(*hypotheses, seeds=6):
    return Registration(
        "t",
        "s",
        "sha",
        list(range(seeds)),
        "toy",
        grid={"norm": ["a", "b"]},
        hypotheses=list(hypotheses),
    )


@pytest.fixture(autouse=True)
def fewer_repeats(monkeypatch):
    monkeypatch.setattr(module, "REPEATS", 400)


def test_residuals_are_those_of_two_seeds_of_arms_that_differ_in_one_setting(tmp_path):
    earlier = "table4/multi30k/earlier"
    shutil.copytree(RESULTS / earlier, tmp_path / earlier)  # and not what was run since
    pool = observed_residuals(tmp_path, replace(GAIN, spread="table4/multi30k test/bleu"))
    # layernorm 9.39457, 9.16698; rmsnorm 9.23327, 9.3513: (0.1613 - -0.18432) / √2
    assert sorted(abs(pool).round(3)) == [0.078, 0.244, 0.322]
    assert (
        observed_residuals(RESULTS, replace(GAIN, scale=2.0))
        == 2 * observed_residuals(RESULTS, GAIN)
    ).all()


def test_a_spread_may_name_the_norms_it_is_of_and_a_norm_is_one_setting_whatever_its_options():
    every, two = (
        observed_residuals(RESULTS, replace(GAIN, spread=f"norms/grammar dev/nll{norms}"))
        for norms in ("", " layernorm rmsnorm")
    )
    assert len(two) == 3 and len(every) > 20 * len(two)  # three seeds: three pairs of differences
    assert set(two) <= set(every)


def test_a_spread_that_was_never_observed_is_an_error():
    with pytest.raises(UserError, match="no pairs of runs in spread='table9/multi30k dev/nll'"):
        power(plan(replace(GAIN, spread="table9/multi30k dev/nll")), RESULTS)


def test_a_misspelt_norm_of_a_spread_is_an_error():
    with pytest.raises(UserError, match="names rmsnrm, but no run of norms/grammar has that norm"):
        observed_residuals(RESULTS, replace(GAIN, spread="norms/grammar dev/nll layernorm rmsnrm"))


def test_power_grows_with_seeds_and_effect_and_shrinks_with_the_claims_of_the_table():
    (few,), (many,) = power(plan(GAIN), RESULTS), power(plan(GAIN), RESULTS, seeds=12)
    (strong,) = power(plan(replace(GAIN, expected=0.1)), RESULTS)
    shared = power(plan(GAIN, *[replace(GAIN, expected=0.0)] * 5), RESULTS)[0]
    assert 0.2 < shared < few < many and few < strong


def test_without_an_effect_power_is_the_level():
    (share,) = power(plan(replace(GAIN, expected=0.0)), RESULTS)
    assert share <= 0.05


@pytest.mark.slow
def test_committed_powers_are_those_of_the_simulation(monkeypatch):
    monkeypatch.setattr(module, "REPEATS", 300)
    for path in sorted((ROOT / "experiments").glob("*/experiment.toml")):
        for registration in read_registrations(path):
            found = power(registration, RESULTS)
            for hypothesis, share in zip(registration.hypotheses, found, strict=True):
                # Its runs were there before seeds were counted in place of runs (results/README).
                if (registration.name, hypothesis.claim) == (
                    "factorial/multi30k",
                    "neither_shifted",
                ):
                    assert (share, hypothesis.power) == (0.0, 1.0)
                    continue
                assert share == pytest.approx(hypothesis.power, abs=0.05)


def test_the_command_prints_the_power_of_each_claim_and_names_an_unknown_registration():
    def run(*arguments):
        return script("scripts/power.py", *arguments)

    assert run("table4/multi30k").stdout.startswith("table4/multi30k rmsnorm: 0.9")
    few = run("table4/xavier", "--seeds", "4").stdout
    assert few.startswith("table4/xavier none: 0.00  below 0.8\n")
    assert "no registration table9/x; choose of" in run("table9/x").stderr
