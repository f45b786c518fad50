"""Figures: seeds together, n and divergence said, labels apart, shared axes, the same bytes."""

import json
import math

import pytest
from processes import script
from synthetic import write_run

pytest.importorskip("matplotlib")

from normlab.reports import text
from normlab.reports.figures import (
    Panel,
    draw_curves,
    draw_parameter,
    draw_points,
    drawable,
    spread,
    wide,
    write_figure,
)
from normlab.reports.records import RunRecord, read_record


def run(norm, bleus, status="completed", config=None):
    metrics = [{"step": i + 1, "time": 60.0 * i, "dev/bleu": b} for i, b in enumerate(bleus)]
    return RunRecord(None, {"norm": norm, "status": status}, config or {}, metrics)


@pytest.fixture
def axes():
    import matplotlib.pyplot as plt

    yield plt.subplots()[1]
    plt.close("all")


RUNS = [run("rmsnorm", [1, 2, 3]), run("rmsnorm", [3, 4]), run("none", [1], "diverged")]


@pytest.mark.slow
def test_seeds_share_a_line_with_a_band_and_a_diverged_run_ends_in_a_cross(axes):
    ends = draw_curves(axes, Panel(RUNS, "dev/bleu"))
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    # the mean of the seeds; of "none" its only run and the cross at its end, and no mean
    assert lines == [([1, 2], [2, 3]), ([1], [1]), ([1], [1])]
    assert axes.lines[2].get_marker() == "x" and len(axes.collections) == 1  # the band
    assert [label for _, _, label, _ in ends] == ["rmsnorm (n=2)", "none (n=0, 1 diverged)"]


def test_a_value_that_is_not_finite_is_a_gap_and_at_the_end_a_cross(axes):
    seeds = [run("rmsnorm", [5, None, 3]), run("rmsnorm", [7, 6, 5]), run("rmsnorm", [9, None])]
    ends = draw_curves(axes, Panel(seeds, "dev/bleu"))
    _, cross, mean = axes.lines
    assert mean.get_xdata().tolist() == [1, 2, 3]  # no step has moved
    assert mean.get_ydata()[[0, 2]].tolist() == [6, 4] and math.isnan(mean.get_ydata()[1])
    assert (cross.get_xdata().tolist(), cross.get_ydata().tolist()) == ([1], [9])
    assert [label for _, _, label, _ in ends] == ["rmsnorm (n=2, 1 not finite)"]


def test_a_diverged_seed_does_not_cut_the_mean_of_the_others_short(axes):
    seeds = [run("rmsnorm", [5, 4, 3]), run("rmsnorm", [7, 6, 5]), run("rmsnorm", [9], "diverged")]
    ends = draw_curves(axes, Panel(seeds, "dev/bleu"))
    assert list(axes.lines[-1].get_ydata()) == [6, 5, 4]
    assert list(axes.lines[0].get_ydata()) == [9]
    assert [label for _, _, label, _ in ends] == ["rmsnorm (n=2, 1 diverged)"]


def test_runs_that_diverge_before_their_first_point_are_named(axes):
    lost = [run("none", [], "diverged"), run("none", [], "diverged")]
    seeds = [run("rmsnorm", range(10)), *lost]
    assert drawable(seeds, "dev/bleu") == seeds
    ends = draw_curves(axes, Panel(seeds, "dev/bleu"))
    assert [label for _, _, label, _ in ends] == ["rmsnorm (n=1)", "none (n=0, 2 diverged)"]
    assert len(axes.lines) == 1


def test_against_a_setting_every_run_is_a_dot_and_a_diverged_one_a_cross(axes):
    def at(mean, value, status="completed"):
        return run("rmsnorm", [value], status, {"init": {"mean": mean}})

    panel = Panel(
        [at(0, 3.0), at(0, 5.0), at(0.2, 6.0), at(0.2, 1.0, "diverged")], "dev/bleu", "init.mean"
    )
    ends = draw_parameter(axes, panel)
    assert list(axes.lines[0].get_ydata()) == [4.0, 6.0]  # means of those that completed
    assert [line.get_marker() for line in axes.lines] == ["None", "o", "o", "x"]
    assert [label for _, _, label, _ in ends] == ["rmsnorm (n=1)", "× rmsnorm diverged"]


def test_curves_of_fewer_than_ten_points_are_not_drawn_but_for_diverged_runs():
    nine, ten, lost = run("a", range(9)), run("b", range(10)), run("c", [1.0], "diverged")
    assert drawable([nine, ten, lost], "dev/bleu") == [ten, lost]


def test_a_diverging_loss_asks_for_a_logarithmic_axis():
    assert wide([run("none", [3.0, 6000.0]), run("rmsnorm", [9.0, 3.0])], "dev/bleu")
    assert not wide([run("rmsnorm", [9.0, 3.0])], "dev/bleu")


@pytest.mark.parametrize("places", [[0.5, 0.5, 0.5], [0.98, 0.99, 1.0], [0.1, 0.9], []])
def test_labels_are_pushed_apart_and_stay_inside(places):
    found = spread(places)
    assert all(b - a >= 0.0749 for a, b in zip(found, found[1:], strict=False))
    assert all(place <= 1 for place in found) and len(found) == len(places)
    assert spread([0.1, 0.9]) == [0.1, 0.9]


def test_panels_of_one_metric_share_their_axes_and_name_the_data(tmp_path, monkeypatch):
    import matplotlib.pyplot as plt

    kept = []
    monkeypatch.setattr(plt, "close", kept.append)
    panels = [Panel(RUNS[:1], "dev/bleu", data="toy"), Panel([run("none", [9, 9])], "dev/bleu")]
    write_figure(panels, draw_curves, tmp_path / "x.png")
    left, right = kept[0].axes
    assert left.get_ylim() == right.get_ylim() and left.get_xlim() == right.get_xlim()
    said = "dev SacreBLEU, greedy\ntoy; higher is better"
    assert (left.get_ylabel(), left.get_xlabel()) == (said, "training step")
    monkeypatch.undo()
    plt.close("all")


def test_a_level_of_chance_is_a_line_across(axes):
    draw_curves(axes, Panel([run("a", range(10))], "dev/bleu", chance=4.5))
    assert list(axes.lines[-1].get_ydata()) == [4.5, 4.5]


def test_a_metric_knows_which_way_is_better_also_at_a_step():
    assert text.lower_is_better("dev/nll@50") and not text.lower_is_better("test/bleu")
    assert all(
        text.lower_is_better(key)
        for key in ("test/test/image_mean_rank", "dev/violation", "dev/nll@50", "train/step_ms")
    )
    assert not any(map(text.lower_is_better, ("dev/recall", "dev/caption_r10", "best_dev")))
    assert text.has_better("dev/nll@50") and text.has_better("best_dev")
    assert not text.has_better("train/grad_norm@40") and not text.has_better("hidden/all/rotation")
    assert text.metric("dev/nll@50") == "dev NLL (nats per token) at step 50"


def test_the_same_runs_give_the_same_bytes(tmp_path):
    for suffix in ("png", "svg"):
        for name in ("x", "y"):
            write_figure([Panel(RUNS, "dev/bleu")] * 2, draw_curves, tmp_path / f"{name}.{suffix}")
        assert (tmp_path / f"x.{suffix}").read_bytes() == (tmp_path / f"y.{suffix}").read_bytes()


def test_curves_are_read_from_metrics(tmp_path):
    lines = [{"step": 1, "time": 60.0, "dev/bleu": 1.0}, {"step": 2, "time": 120.0, "train/lr": 1}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "summary.json").write_text('{"status": "completed", "norm": "rmsnorm"}')
    record = read_record(tmp_path)
    assert record.curve("dev/bleu", "time") == ([60.0], [1.0])
    assert record.curve("train/loss") == ([], [])


def test_scripts_name_a_metric_that_no_run_has(tmp_path):
    runs = [write_run(tmp_path, norm, 1, dev_nll=[3.0, 2.0]) for norm in ("rmsnorm", "none")]
    drawn = tmp_path / "curves.png"
    for name, key in (("curves.py", "--keys"), ("table.py", "--value")):
        done = script(f"scripts/{name}", *runs, key, "dev/nlll", cwd=tmp_path)
        assert done.returncode == 1 and not done.stdout and not drawn.exists()
        assert "no run has dev/nlll: did you mean dev/nll?" in done.stderr
    done = script("scripts/curves.py", *runs, "--out", drawn)
    assert done.returncode == 0 and drawn.exists()  # though they have none of the usual keys


def test_curves_of_other_settings_are_no_seeds_of_one_line(tmp_path):
    runs = [
        write_run(tmp_path, "none", seed, config={"init.mean": mean}, dev_bleu=[1.0, 2.0])
        for seed in (1, 2)
        for mean in (0.0, 0.2)
    ]
    done = script("scripts/curves.py", *runs, runs[0], "--out", tmp_path / "c.svg")
    assert done.returncode == 0, done.stderr
    drawn = (tmp_path / "c.svg").read_text()
    for words in ("init.mean=0", "init.mean=0.2", "none (n=2)"):
        assert f"<!-- {words} -->" in drawn
    assert "n=3" not in drawn and "n=4" not in drawn
    other = write_run(tmp_path, "none", 3, summary={"contents": {"train": 1}}, dev_bleu=[1.0, 2.0])
    done = script("scripts/curves.py", *runs, other, "--out", tmp_path / "d.svg")
    assert done.returncode == 1 and "the runs of a norm differ in data, init.mean" in done.stderr


def test_differences_are_of_one_seed_and_show_the_margin(axes):
    from types import SimpleNamespace

    from normlab.reports.experiments import Figure
    from normlab.reports.panels import _differences

    def of(norm, seed, bleus):
        found = run(norm, bleus)
        found.summary["seed"] = seed
        return found

    runs = [of("layernorm", 1, [1, 2]), of("layernorm", 2, [5, 6]), of("rmsnorm", 2, [5.5, 6.25])]
    runs += [of("rmsnorm", 3, [0, 0]), of("none", 1, [9, 12])]  # one without a partner, one far off
    hypotheses = [SimpleNamespace(metric="dev/bleu", margin=0.5)]
    found = SimpleNamespace(
        experiment=SimpleNamespace(baseline={"norm": "layernorm"}),
        registration=SimpleNamespace(hypotheses=hypotheses, data="toy"),
    )
    panel = _differences(found, runs, Figure("curves", ["dev/bleu"]), "dev/bleu", "")
    assert panel.label == "dev SacreBLEU, greedy, less layernorm's" and panel.margin == 0.5
    said = [label for _, _, label, _ in draw_curves(axes, panel)]
    assert said == ["rmsnorm (n=1)", "none (n=1), +10"]
    assert list(axes.lines[0].get_ydata()) == [0.5, 0.25]
    assert axes.get_ylim() == (-2, 2)


def test_points_of_differences_are_of_one_row_too(axes):
    from types import SimpleNamespace

    from normlab.reports.experiments import Figure
    from normlab.reports.panels import _differences

    def of(p, width, seed, bleu, status="completed"):
        found = run("prmsnorm", [bleu], status)
        found.summary["seed"] = seed
        found.config.update(norm={"p": p}, model={"d_hidden": width})
        return found

    runs = [of(1.0, 8, 1, 9), of(0.5, 8, 1, 7), of(1.0, 16, 1, 20), of(0.5, 16, 1, 19.5)]
    runs += [of(0.5, 16, 2, 1), of(0.5, 16, 3, 1, "diverged")]  # without a partner, lost
    found = SimpleNamespace(
        experiment=SimpleNamespace(baseline={"norm.p": 1.0}),
        registration=SimpleNamespace(hypotheses=[], data="toy"),
    )
    figure = Figure("points", ["dev/bleu"], x="model.d_hidden")
    panel = _differences(found, runs, figure, "dev/bleu", "")
    assert panel.label == "dev SacreBLEU, greedy, less that of norm.p=1" and panel.margin is None
    found = [(r.setting("model.d_hidden"), r.measure("dev/bleu")) for r in panel.runs]
    assert found == [(8, -2), (16, -0.5), (16, None)]
    draw_points(axes, panel)
    assert "prmsnorm (n=1, 1 diverged)" in [t.get_text() for t in axes.get_legend().get_texts()]
