"""Curves from run directories: seeds together, diverged runs shown, the same bytes again."""

import json

import pytest

pytest.importorskip("matplotlib")

from normlab.errors import UserError
from normlab.reports.curves import draw, figure
from normlab.reports.runs import read_run


def write_run(folder, norm, bleus, status="completed", mean=0.0):
    folder.mkdir(parents=True)
    lines = [
        json.dumps({"step": 10 * (i + 1), "time": 60.0 * (i + 1), "dev/bleu": bleu})
        for i, bleu in enumerate(bleus)
    ]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    summary = {"norm": norm, "init_mean": mean, "status": status}
    (folder / "summary.json").write_text(json.dumps(summary))
    return read_run(folder)


@pytest.fixture
def runs(tmp_path):
    return [
        write_run(tmp_path / "a", "rmsnorm", [1.0, 2.0, 4.0]),
        write_run(tmp_path / "b", "rmsnorm", [3.0, 4.0]),
        write_run(tmp_path / "c", "none", [1.0, None], status="diverged"),
    ]


def test_a_curve_leaves_out_what_was_not_finite(runs):
    assert runs[0].curve("dev/bleu") == ([10, 20, 30], [1, 2, 4])
    assert runs[2].curve("dev/bleu", "time") == ([60], [1])
    assert runs[2].curve("train/loss") == ([], [])


def test_seeds_share_a_line_with_a_band_and_a_diverged_run_ends_in_a_cross(runs):
    import matplotlib.pyplot as plt

    _, axes = plt.subplots()
    draw(axes, runs, "dev/bleu", "time")
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
    assert lines == [([1, 2], [2, 3]), ([1], [1]), ([1], [1])]  # mean of seeds; none; its cross
    assert axes.lines[2].get_marker() == "x"
    assert len(axes.collections) == 1  # the band of the two seeds
    assert {text.get_text().strip() for text in axes.texts} == {"rmsnorm", "none"}
    plt.close()


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    for name in ("x", "y"):
        figure(runs, ["dev/bleu", "dev/bleu"], "step", tmp_path / name)
    assert (tmp_path / "x.svg").read_bytes() == (tmp_path / "y.svg").read_bytes()
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_a_directory_without_a_summary_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no finished run"):
        read_run(tmp_path)
