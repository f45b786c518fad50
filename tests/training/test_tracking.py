"""Metrics are lines of JSON."""

import json

from normlab.training.tracking import Tracker, keep_lines


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


def test_later_lines_and_a_half_written_one_are_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    keep_lines(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_lines_are_counted_on_from_what_is_there(tmp_path):
    for expected in (1, 2):
        with Tracker(tmp_path / "metrics.jsonl") as tracker:
            tracker.log(5, 1.25, {"train/loss": 2.5})
        assert tracker.lines == expected
