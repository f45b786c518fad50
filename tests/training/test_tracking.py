"""Metrics are lines of JSON."""

import json

from normlab.training.tracking import Tracker


def lines(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_one_line_per_record_and_null_for_what_is_not_finite(tmp_path):
    with Tracker(tmp_path / "metrics.jsonl") as tracker:
        tracker.log(5, 1.25, {"train/loss": 2.5})
        tracker.log(6, 1.5, {"train/loss": float("nan"), "train/grad_norm": float("inf")})
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 5, "time": 1.25, "train/loss": 2.5},
        {"step": 6, "time": 1.5, "train/loss": None, "train/grad_norm": None},
    ]


def test_it_begins_with_the_lines_a_checkpoint_knows_whatever_the_file_holds(tmp_path):
    path, known = tmp_path / "metrics.jsonl", '{"step": 1}\n{"step": 2}\n'
    for found in (known + '{"step": 3}\n{"st', '{"step": 7}\n', ""):
        path.write_text(found)
        with Tracker(path, text=known) as tracker:
            assert path.read_text() == known
            tracker.log(5, 1.25, {"train/loss": 2.5})
        assert path.read_text() == tracker.text
        assert [line["step"] for line in lines(path)] == [1, 2, 5]
