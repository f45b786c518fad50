"""Verdicts on synthetic values that should and should not pass, for every rule."""

import json
from dataclasses import replace

import pytest

from normlab.errors import UserError
from normlab.registration import Hypothesis, Registration
from normlab.reports.experiments import SpeedClaim
from normlab.reports.speed import judge_speed, measured
from normlab.reports.verdicts import decide, judge

LN, RMS, NONE = {"norm": "layernorm"}, {"norm": "rmsnorm"}, {"norm": "none"}
JITTER = [0.0, 0.1, -0.1, 0.05, -0.05, 0.02]


def table(hypotheses, values, seeds=6, ended=None, others=None, grid=None, **options):
    """Returns the verdicts on values {norm: [value by seed, None: diverged]} of every metric."""
    registration = Registration(
        "t",
        "multi30k",
        "sha",
        list(range(seeds)),
        "toy",
        grid=grid or {"norm": list(values)},
        hypotheses=hypotheses,
        **options,
    )

    def measure(metric):
        found = (others or {}).get(metric, values)
        return {(("norm", norm),): dict(enumerate(each)) for norm, each in found.items()}

    count = sum(len(each) for each in values.values()) if ended is None else ended
    return judge(registration, measure, count, list(others or {}))


def one(hypothesis, values, **options):
    (verdict,) = table([hypothesis], values, **options)
    return verdict


def around(mean, jitter=JITTER):
    return [mean + x for x in jitter]


GREATER = Hypothesis("c", "greater", RMS, LN, metric="test/bleu", margin=0.5)
EQUAL = Hypothesis("c", "equal", RMS, LN, metric="test/bleu", margin=0.5, floor=10.0)
FAILS = Hypothesis("c", "fails", NONE, metric="test/bleu", floor=1.0)


@pytest.mark.parametrize(
    ("rms", "verdict"),
    [
        (around(22.0), "reproduced"),
        (around(20.0), "contradicted"),
        (around(21.5), "undecided"),  # on the margin
        ([22.0, 24.0, 19.0, 25.0, 20.0, 22.0], "undecided"),  # above it, but anyhow
        ([None] * 6, "contradicted"),  # worse in every pair
        ([22.0, 22.1, 22.2, None, None, 22.3], "undecided"),
    ],
)
def test_greater(rms, verdict):
    assert (
        one(GREATER, {"layernorm": around(21.0, JITTER[::-1]), "rmsnorm": rms}).verdict == verdict
    )


@pytest.mark.parametrize(
    ("rms", "verdict"),
    [
        (around(21.1), "reproduced"),
        (around(24.0), "contradicted"),
        ([20.0, 22.0, 21.2, 21.9, 20.1, 21.0], "undecided"),
        ([None] * 6, "not comparable"),  # six pairs of signs are too few for two directions
        (
            [21.0, 21.1, 21.2, 21.0, 21.1, None],
            "undecided",
        ),  # a mean over five would hide the sixth
    ],
)
def test_equal(rms, verdict):
    assert one(EQUAL, {"layernorm": around(21.0, JITTER[::-1]), "rmsnorm": rms}).verdict == verdict


def test_eight_diverged_runs_contradict_equality_with_eight_that_learnt():
    values = {"layernorm": [21.0] * 8, "rmsnorm": [None] * 8}
    assert one(EQUAL, values, seeds=8).verdict == "contradicted"


def test_two_models_that_learnt_nothing_are_not_equal_but_not_comparable():
    found = one(EQUAL, {"layernorm": around(0.2), "rmsnorm": around(0.2, JITTER[::-1])})
    assert found.verdict == "not comparable" and "worse than the floor" in found.evidence


def test_one_that_learnt_nothing_contradicts_equality_with_one_that_did():
    found = one(EQUAL, {"layernorm": around(21.0), "rmsnorm": around(0.2, JITTER[::-1])})
    assert found.verdict == "contradicted"


REACHES = Hypothesis("c", "reaches", RMS, LN, metric="test/bleu", margin=0.5, floor=10.0)


@pytest.mark.parametrize(
    ("rms", "verdict"),
    [
        (around(20.9, JITTER[::-1]), "reproduced"),
        (around(23.0, JITTER[::-1]), "reproduced"),  # better: equality would be contradicted
        (around(20.5, JITTER[::-1]), "undecided"),  # on the margin
        (around(19.0, JITTER[::-1]), "contradicted"),
        (around(0.2, JITTER[::-1]), "contradicted"),
        ([None] * 6, "contradicted"),
        ([22.0] * 5 + [None], "undecided"),
    ],
)
def test_reaches(rms, verdict):
    assert one(REACHES, {"layernorm": around(21.0), "rmsnorm": rms}).verdict == verdict


def test_what_learnt_nothing_reaches_nothing():
    found = one(REACHES, {"layernorm": around(0.2), "rmsnorm": around(0.3, JITTER[::-1])})
    assert found.verdict == "not comparable" and "worse than the floor" in found.evidence


@pytest.mark.parametrize(
    ("rms", "verdict"), [(6.9, "reproduced"), (3.0, "reproduced"), (9.0, "contradicted")]
)
def test_an_error_reaches_another_from_above(rms, verdict):
    hypothesis = replace(REACHES, metric="dev/error", margin=1.0, floor=30.0)
    values = {"layernorm": around(6.6), "rmsnorm": around(rms, JITTER[::-1])}
    assert one(hypothesis, values).verdict == verdict
    assert one(hypothesis, {k: around(70.0) for k in values}).verdict == "not comparable"


def test_another_metric_disagrees_with_reaches_where_a_is_worse():
    values = {"layernorm": around(21.0), "rmsnorm": around(20.9, JITTER[::-1])}
    better, worse = (
        {"layernorm": around(21.0), "rmsnorm": around(v, JITTER[::-1])} for v in (25.0, 15.0)
    )
    others = {"test/bleu": values, "best_dev": better, "dev/bleu": worse}
    found = one(REACHES, values, others=others)
    assert found.verdict == "reproduced" and found.disagrees.startswith("dev/bleu says -6 [")
    assert "best_dev" not in found.disagrees


def test_of_a_loss_less_is_better_and_a_diverged_run_worst():
    hypothesis = Hypothesis("c", "greater", NONE, LN, metric="dev/nll")
    values = {"layernorm": around(3.0), "none": [None] * 6}
    found = one(hypothesis, values)
    assert found.verdict == "reproduced" and "6 and 0 of 6 runs diverged" in found.evidence


def test_two_diverged_runs_are_a_tie():
    values = {"layernorm": [None] * 5 + [21.0], "rmsnorm": [None] * 5 + [30.0]}
    assert one(GREATER, values).verdict == "undecided"  # one pair is left


@pytest.mark.parametrize(
    ("none", "verdict", "evidence"),
    [
        ([None] * 6, "reproduced", "6 of 6 seeds (95 % interval of the share 54 to 100 %)"),
        ([0.2] * 6, "reproduced", "6 of 6 seeds"),
        (
            [None, None, None, 20.0, 21.0, 20.0],
            "undecided",
            "3 of 6 seeds (95 % interval of the share 12 to 88 %)",
        ),
        ([20.0] * 6, "contradicted", "0 of 6 seeds (95 % interval of the share 0 to 46 %)"),
        ([None] + [20.0] * 11, "contradicted", "1 of 12 seeds"),
    ],
)
def test_failures_to_train_are_counted(none, verdict, evidence):
    found = one(FAILS, {"none": none}, seeds=len(none))
    assert found.verdict == verdict and evidence in found.evidence


def test_a_seed_fails_once_however_many_arms_it_has():
    def judged(with_bias, *more):
        grid = {"norm": ["none"], "norm.bias": [False, True]}
        claims = [replace(FAILS, a={}), *more]
        plan = Registration("t", "s", "sha", list(range(6)), "toy", grid=grid, hypotheses=claims)
        values = dict(zip(plan.arms(), ({i: None for i in range(6)}, with_bias), strict=True))
        return judge(plan, lambda metric: values, 12)[0]

    assert "6 of 6 seeds" in judged({i: None for i in range(6)}).evidence  # not 12 of 12 runs
    split = judged({i: None if i else 20.0 for i in range(6)})
    assert "5 of 5 seeds" in split.evidence and "1 with runs of both kinds" in split.evidence
    few = judged({i: None for i in range(6)}, replace(FAILS, a={"norm.bias": True}), FAILS)
    assert few.verdict == "undecided"
    assert few.evidence.endswith("6 seeds that agree are too few among 3 claims")


def test_a_metric_that_some_runs_never_logged_gives_no_verdict():
    values = {"layernorm": around(21.0), "rmsnorm": around(22.0, JITTER[::-1])[:5]}
    found = one(GREATER, values, ended=12)
    assert found.verdict == "not finished"
    assert found.p is None and found.evidence.endswith("+1 (n=5)")


@pytest.mark.parametrize(
    ("last", "verdict"),
    [(20.02, "reproduced"), (23.0, "contradicted"), (20.5, "undecided")],
)
def test_flat_looks_at_every_pair_of_values(last, verdict):
    grid = {"norm.p": [0.1, 0.5, 1.0]}
    hypothesis = Hypothesis("c", "flat", {}, metric="test/bleu", by="norm.p", margin=0.5, floor=5.0)
    registration = Registration(
        "t", "s", "sha", list(range(6)), "toy", grid=grid, hypotheses=[hypothesis]
    )
    rows = {
        0.1: around(20.0),
        0.5: around(20.0, JITTER[::-1]),
        1.0: around(last, JITTER[2:] + JITTER[:2]),
    }
    values = {(("norm.p", p),): dict(enumerate(each)) for p, each in rows.items()}
    (found,) = judge(registration, lambda metric: values, 18)
    assert found.verdict == verdict
    apart = 0 if last == 20.02 else 2
    assert f"; {apart} of 3 differences have a 95 % interval without 0" in found.evidence


def test_a_mean_over_several_arms_needs_every_run_on_either_side():
    grid = {"norm": ["layernorm", "rmsnorm"], "init.mean": [0, 0.2]}
    hypothesis = Hypothesis("c", "greater", {**RMS, "init.mean": 0}, LN, metric="dev/nll")
    registration = Registration(
        "t", "s", "sha", list(range(6)), "toy", grid=grid, hypotheses=[hypothesis]
    )

    def judged(last):
        values = {
            (("init.mean", mean), ("norm", norm)): dict(enumerate(around(3.0)))
            for mean in (0, 0.2)
            for norm in ("layernorm", "rmsnorm")
        }
        values[(("init.mean", 0), ("norm", "rmsnorm"))] = dict(enumerate(around(5.0, JITTER[::-1])))
        values[(("init.mean", 0.2), ("norm", "layernorm"))][5] = last
        return judge(registration, lambda metric: values, 24)[0].verdict

    assert (judged(3.0), judged(None)) == ("reproduced", "not comparable")


def test_an_interaction_is_a_difference_of_differences_and_needs_every_run():
    grid = {"norm": ["layernorm", "rmsnorm"], "init.mean": [0, 0.2]}
    hypothesis = Hypothesis(
        "c",
        "greater",
        {**RMS, "init.mean": 0.2},
        {**LN, "init.mean": 0.2},
        metric="dev/nll",
        minus_a={**RMS, "init.mean": 0},
        minus_b={**LN, "init.mean": 0},
    )
    registration = Registration(
        "t", "s", "sha", list(range(6)), "toy", grid=grid, hypotheses=[hypothesis]
    )

    def judged(shifted):
        means = {("rmsnorm", 0): 3.5, ("layernorm", 0): 3.0, ("layernorm", 0.2): 3.0}
        values = {
            (("init.mean", mean), ("norm", norm)): dict(enumerate(around(level)))
            for (norm, mean), level in means.items()
        }
        values[(("init.mean", 0.2), ("norm", "rmsnorm"))] = dict(enumerate(shifted))
        return judge(registration, lambda metric: values, 24)[0]

    found = judged(around(5.0, JITTER[::-1]))
    assert found.verdict == "reproduced" and "+1.5 [" in found.evidence  # (5 - 3) - (3.5 - 3)
    assert judged([5.0] * 5 + [None]).verdict == "not comparable"


def test_differences_are_paired_by_seed():
    values = {
        "layernorm": [10.0, 20, 30, 40, 50, 60],
        "rmsnorm": [10.6, 20.61, 30.59, 40.6, 50.6, 60.6],
    }
    found = one(GREATER, values)
    assert found.verdict == "reproduced" and "+0.6 [+0.593, +0.607] (n=6)" in found.evidence


def test_below_six_seeds_there_are_numbers_but_no_interval_and_no_p():
    values = {"layernorm": around(21.0)[:5], "rmsnorm": around(22.0)[:5]}
    found = one(GREATER, values, seeds=5)
    assert found.verdict == "too few seeds" and found.p is None
    assert found.evidence.endswith("+1 (n=5)")


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        ({"ended": 11}, "not finished"),
        ({"ended": 0}, "not run yet"),
        ({"pilot": "pending: steps"}, "pilot pending"),
        ({"pilot": "done"}, "reproduced"),
    ],
)
def test_no_verdict_before_the_pilot_is_done_and_every_registered_run_has_ended(options, verdict):
    values = {"layernorm": around(21.0), "rmsnorm": around(22.0, JITTER[::-1])}
    assert one(GREATER, values, **options).verdict == verdict


def test_each_further_claim_of_a_table_makes_the_others_harder():
    values = {
        "layernorm": around(21.0, [0.4, -0.4, 0.5, -0.5, 0.3, -0.3]),
        "rmsnorm": around(22.05),
    }
    assert one(GREATER, values).verdict == "reproduced"
    assert [v.verdict for v in table([GREATER] * 9, values)] == ["undecided"] * 9


def test_other_metrics_that_disagree_are_named():
    values = {"layernorm": around(21.0), "rmsnorm": around(21.1, JITTER[::-1])}
    best = {"layernorm": around(25.0), "rmsnorm": around(23.0, JITTER[::-1])}
    found = one(EQUAL, values, others={"best_dev": best, "dev/bleu": values})
    assert found.verdict == "reproduced" and found.disagrees.startswith("best_dev says -2 [")
    assert "dev/bleu" not in found.disagrees


@pytest.mark.parametrize(
    ("bleu", "other", "level", "said"),
    [  # LayerNorm has a BLEU of 21 and 3 in the other metric
        (22.0, "dev/nll", 2.5, ""),  # less of a loss is better: they agree
        (22.0, "dev/nll", 3.5, "dev/nll says +0.5 ["),
        (22.0, "dev/nll", 3.01, ""),  # its interval reaches 0
        (22.0, "best_dev", 3.5, ""),
        (22.0, "best_dev", 2.5, "best_dev says -0.5 ["),
        (20.0, "dev/nll", 3.5, ""),
        (20.0, "dev/nll", 2.5, "dev/nll says -0.5 ["),
        (20.0, "best_dev", 3.5, "best_dev says +0.5 ["),
        (20.0, "best_dev", 2.5, ""),
    ],
)
def test_a_metric_disagrees_whose_interval_lies_on_the_other_side(bleu, other, level, said):
    values = {"layernorm": around(21.0), "rmsnorm": around(bleu, JITTER[::-1])}
    others = {other: {"layernorm": around(3.0), "rmsnorm": around(level, JITTER[::-1])}}
    found = one(GREATER, values, others={"test/bleu": values, **others})
    assert found.verdict == ("reproduced" if bleu > 21 else "contradicted")
    assert found.disagrees.startswith(said) and bool(found.disagrees) == bool(said)


def test_the_level_itself_is_enough():
    assert decide(0.05, 1.0) == "reproduced" and decide(1.0, 0.05) == "contradicted"
    assert decide(0.051, 0.051) == "undecided"


def test_a_saving_fades_where_the_ratio_of_the_wider_is_nearer_to_one(tmp_path):
    noise = [1.0, 1.001, 0.999, 1.002, 0.998]

    def record(width, ratio):
        times = {"b": noise, "a": [ratio * n for n in noise], "A/A control": noise[::-1]}
        return {"title": f"d_model {width}", "baseline": "b", "times": times, "processes": 5}

    def judged(narrow, wide):
        records = [record(128, narrow), record(1024, wide)]
        stored = {"records": records, "environment": {"device": "cpu"}, "commit": "c"}
        (tmp_path / "widths.json").write_text(json.dumps(stored))
        of, than = (each["title"] for each in records)
        claim = SpeedClaim("c", "widths", "a", "b", of, than)
        return judge_speed(claim, measured(claim, tmp_path))

    found = judged(0.90, 0.99)
    assert found.verdict == "reproduced"
    assert found.evidence.startswith("d_model 128 : d_model 1024: a : b 0.909 [0.909, 0.909]")
    assert judged(0.99, 0.99).verdict == judged(0.99, 0.90).verdict == "contradicted"


def two_benchmarks(folder, ratios, **changed):
    """Writes a benchmark and its repeat, of five processes each, in which a : b has a ratio."""
    noise = [1.0, 1.001, 0.999, 1.002, 0.998]
    for name, ratio in zip(("steps", "steps_repeat"), ratios, strict=True):
        times = {"b": noise, "a": [ratio * n for n in noise], "A/A control": noise[::-1]}
        record = {"title": "t", "baseline": "b", "times": times, "processes": 5}
        record["loss"] = dict.fromkeys(times, 7.0) | changed.get("loss", {})
        stored = {"title": "T", "notes": [], "records": [record], "commit": "c"}
        stored["environment"] = {"device": "cpu"}
        if name == "steps_repeat":
            stored |= {key: value for key, value in changed.items() if key != "loss"}
        (folder / f"{name}.json").write_text(json.dumps(stored))


def judged_twice(folder, ratios, **changed):
    two_benchmarks(folder, ratios, **changed)
    claim = SpeedClaim("c", "steps", "a", "b")
    return judge_speed(claim, measured(claim, folder))


def test_evidence_says_which_side_of_the_margin_a_p_value_is_for():
    reaches = replace(EQUAL, rule="reaches")
    error = replace(reaches, metric="dev/error", floor=90.0)
    for hypothesis, rms, side in (
        (GREATER, 22.0, "(above 0.5)"),
        (GREATER, 20.0, "(below 0.5)"),
        (replace(GREATER, margin=0.0), 22.0, ""),
        (EQUAL, 21.1, "(within ±0.5)"),
        (EQUAL, 24.0, "(outside ±0.5)"),
        (reaches, 22.0, "(above -0.5)"),
        (reaches, 20.0, "(below -0.5)"),
        (error, 20.0, "(below 0.5)"),
        (error, 22.0, "(above 0.5)"),
    ):
        found = one(hypothesis, {"layernorm": around(21.0, JITTER[::-1]), "rmsnorm": around(rms)})
        assert found.verdict in ("reproduced", "contradicted")
        assert found.evidence.split(", p=")[1].partition(" ")[2] == side


def test_a_benchmark_and_its_repeat_count_together(tmp_path):
    found = judged_twice(tmp_path, (0.9, 0.9))
    assert found.verdict == "reproduced" and "a : b 0.900 [0.900, 0.900]" in found.evidence
    assert found.evidence.endswith(
        "; in two benchmarks by themselves 0.900 [0.900, 0.900] (reproduced) and "
        "0.900 [0.900, 0.900] (reproduced)"
    )
    # A second one cannot stand for the first.
    found = judged_twice(tmp_path, (0.9, 1.1))
    assert found.verdict == "undecided" and "a : b 1.000" in found.evidence
    assert found.evidence.endswith(
        "0.900 [0.900, 0.900] (reproduced) and 1.100 [1.100, 1.100] (contradicted), "
        "which do not agree"
    )


@pytest.mark.parametrize(
    "changed",
    [{"commit": "d"}, {"environment": {"device": "gpu"}}, {"notes": ["other"]}, {"title": "U"}],
)
def test_a_repeat_of_something_else_is_an_error(tmp_path, changed):
    with pytest.raises(UserError, match=r"steps_repeat.json repeats .*steps.json.* is not "):
        judged_twice(tmp_path, (0.9, 0.9), **changed)


@pytest.mark.parametrize(("loss", "verdict"), [(39.0, "reproduced"), (41.0, "undecided")])
def test_nothing_is_said_of_a_network_that_has_exploded(tmp_path, loss, verdict):
    found = judged_twice(tmp_path, (0.9, 0.9), loss={"a": loss})
    assert found.verdict == verdict
    assert found.evidence.endswith("exploded") == (verdict == "undecided")
    assert f"; losses at the end {loss:g} and 7" in found.evidence


@pytest.mark.parametrize(
    ("rms", "control", "verdict", "said"),
    [
        (0.9, 1.0, "reproduced", ""),
        (1.1, 1.0, "contradicted", ""),
        (1.01, 1.0, "contradicted", "; within 2 %"),
        (0.98, 1.0, "undecided", ""),  # across the bound
        (0.99, 1.0, "contradicted", "; within 2 %"),  # less, but less than counts
        (0.9, 0.95, "reproduced", ""),  # further than the A/A control reaches
        (1.1, 1.05, "contradicted", ""),
        (0.95, 0.95, "undecided", "; A/A reaches beyond 2 %"),
        (1.01, 0.95, "undecided", "; A/A reaches beyond 2 %"),  # so equal cannot be said
        (None, 1.0, "not run yet", ""),
    ],
)
def test_faster_has_to_exceed_what_counts_as_equal(tmp_path, rms, control, verdict, said):
    noise = [1.0, 1.002, 0.998, 1.001, 0.999] * 4
    times = {"layernorm native": noise[::-1], "A/A control": [control * n for n in noise]}
    if rms is not None:
        times["rmsnorm fused"] = [rms * n for n in noise]
    claim = SpeedClaim("c", "steps", "rmsnorm fused", "layernorm native")

    def judged(processes, commit="c"):
        record = {
            "title": "t",
            "baseline": "layernorm native",
            "times": times,
            "processes": processes,
        }
        stored = {"records": [record], "environment": {"device": "cpu"}, "commit": commit}
        (tmp_path / "steps.json").write_text(json.dumps(stored))
        return judge_speed(claim, measured(claim, tmp_path))

    found = judged(5)
    assert found.verdict == verdict and found.evidence.endswith(said or ("cpu" if rms else ""))
    if rms is not None:
        assert judged(5, "c+changes").verdict == "undecided"
    assert judged(4).verdict == ("too few processes" if rms else verdict)
    unnamed = SpeedClaim("c")
    assert judge_speed(unnamed, measured(unnamed, tmp_path)).verdict == "not run yet"
