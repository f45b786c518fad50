"""Verdicts on synthetic runs that should and should not pass, for every rule."""

import json

import pytest
from synthetic import write_run

from normlab.errors import UserError
from normlab.reports.experiments import Claim
from normlab.reports.runs import read_run
from normlab.reports.statistics import difference
from normlab.reports.verdicts import judge, judge_speed

LN, RMS, NONE = {"norm": "layernorm"}, {"norm": "rmsnorm"}, {"norm": "none"}


@pytest.fixture
def make(tmp_path):
    """Returns a function: {norm: [BLEU of each seed, "diverged" or "failed"]} -> runs by cell."""

    def build(bleu, key="x", **config):
        cells = {}
        for norm, values in bleu.items():
            for seed, value in enumerate(values):
                status = value if isinstance(value, str) else "completed"
                metrics = {"test_bleu": [0.5 if isinstance(value, str) else value]}
                folder = tmp_path / key
                path = write_run(folder, norm, seed, status, config, **metrics)
                cells.setdefault((("norm", norm), *config.items()), []).append(read_run(path))
        return cells

    return build


@pytest.mark.parametrize(
    ("rms", "verdict"),
    [
        ([22.0, 22.1, 22.2], "reproduced"),
        ([20.0, 20.1, 20.3], "contradicted"),
        ([20.0, 22.5, 21.0], "not reproduced"),
        ([21.2, 21.4, 21.5], "not reproduced"),  # above 0, below the margin
        ([22.0], "not run yet"),
        ([22.0, "failed"], "not run yet"),
        (["diverged"] * 3, "contradicted"),  # BLEU 0
    ],
)
def test_greater(make, rms, verdict):
    runs = make({"layernorm": [21.0, 21.1, 21.2], "rmsnorm": rms})
    claim = Claim("c", "greater", "test/bleu", RMS, LN, margin=0.5)
    assert judge(claim, runs).verdict == verdict


@pytest.mark.parametrize(
    ("rms", "verdict"),
    [
        ([21.2, 21.0, 21.1], "reproduced"),
        ([24.0, 24.1, 24.2], "contradicted"),
        ([19.0, 21.0, 21.2], "not reproduced"),
        (["diverged", "diverged"], "contradicted"),
        ([], "not run yet"),
    ],
)
def test_equal(make, rms, verdict):
    runs = make({"layernorm": [21.0, 21.1, 21.2], "rmsnorm": rms})
    claim = Claim("c", "equal", "test/bleu", RMS, LN, margin=0.5)
    assert judge(claim, runs).verdict == verdict


def test_differences_are_paired_by_seed(make):
    runs = make({"layernorm": [10.0, 20.0, 30.0], "rmsnorm": [10.6, 20.6, 30.6]})
    verdict = judge(Claim("c", "greater", "test/bleu", RMS, LN, margin=0.5), runs)
    assert verdict.verdict == "reproduced"  # a constant gain, though the seeds differ widely
    assert "+0.60 [+0.60, +0.60]" in verdict.evidence and "n=3" in verdict.evidence


@pytest.mark.parametrize(
    ("none", "below", "diverges"),
    [
        (["diverged", "diverged"], "reproduced", "reproduced"),
        ([0.2, 0.1], "reproduced", "contradicted"),
        (["diverged", 20.0], "not reproduced", "not reproduced"),
        ([20.0, 21.0], "contradicted", "contradicted"),
        (["diverged"], "not run yet", "not run yet"),
        (["failed", "failed"], "not run yet", "not run yet"),
    ],
)
def test_failures_to_train(make, none, below, diverges):
    runs = make({"none": none})
    assert judge(Claim("c", "below", "test/bleu", NONE, limit=1.0), runs).verdict == below
    assert judge(Claim("c", "diverges", a=NONE), runs).verdict == diverges


@pytest.mark.parametrize(
    ("last", "verdict"),
    [
        ([20.4, 20.4], "reproduced"),
        ([23.0, 23.0], "contradicted"),
        ([20.4, 22.0], "not reproduced"),
        ([20.4], "not run yet"),
        ([], "not run yet"),
    ],
)
def test_flat(make, last, verdict):
    runs = {}
    for p, values in ((0.1, [20.0, 20.0]), (0.5, [20.3, 20.3]), (1.0, last)):
        runs |= make({"prmsnorm": values}, key=f"p{p}", **{"norm.p": p})
    runs.setdefault((("norm", "prmsnorm"), ("norm.p", 1.0)), [])  # a point without a run
    claim = Claim("c", "flat", "test/bleu", {"norm": "prmsnorm"}, by="norm.p", margin=1.0)
    assert judge(claim, runs).verdict == verdict


def test_a_claim_without_a_rule_is_not_run_and_an_unknown_rule_is_an_error(make):
    assert judge(Claim("c"), {}).verdict == "not run yet"
    with pytest.raises(UserError, match="no rule nicer"):
        judge(Claim("c", "nicer"), {})


def test_two_seeds_prove_little_and_say_so():
    two, ten = difference([(1.0, 0.0)] * 2), difference([(1.0 + i / 100, 0.0) for i in range(10)])
    assert two.p == 0.5 and ten.p == pytest.approx(2 / 2**10)
    assert 1.0 < ten.low < ten.mean < ten.high < 1.09


@pytest.mark.parametrize(
    ("rms", "control", "verdict"),
    [
        (0.9, 1.0, "reproduced"),
        (1.1, 1.0, "contradicted"),
        (1.0, 1.0, "not reproduced"),
        (0.97, 0.95, "not reproduced"),  # two equal variants differ by more
        (None, 1.0, "not run yet"),
    ],
)
def test_faster_has_to_exceed_the_control(tmp_path, rms, control, verdict):
    noise = [1.0, 1.002, 0.998, 1.001, 0.999] * 4
    times = {"layernorm native": noise[::-1], "A/A control": [control * n for n in noise]}
    if rms is not None:
        times["rmsnorm fused"] = [rms * n for n in noise]
    record = {"baseline": "layernorm native", "times": times}
    stored = {"records": [record], "environment": {"device": "cpu"}}
    (tmp_path / "steps.json").write_text(json.dumps(stored))
    a, b = ({"variant": name} for name in ("rmsnorm fused", "layernorm native"))
    assert (
        judge_speed(Claim("c", "faster", a=a, b=b, benchmark="steps"), tmp_path).verdict == verdict
    )
    assert (
        judge_speed(Claim("c", "faster", a=a, b=b, benchmark="other"), tmp_path).verdict
        == "not run yet"
    )
