"""Metrics are lines of JSON, and the W&B run says the same."""

import json
import struct

import pytest

from normlab.training.tracking import Tracker, flatten, truncate_metrics, wandb_settings, write_json


def lines(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_a_line_a_record_and_null_for_what_is_not_finite(tmp_path):
    with Tracker(tmp_path) as tracker:
        tracker.log(5, 1.25, {"train/loss": 2.5})
        tracker.log(6, 1.5, {"train/loss": float("nan"), "train/grad_norm": float("inf")})
    assert lines(tmp_path / "metrics.jsonl") == [
        {"step": 5, "time": 1.25, "train/loss": 2.5},
        {"step": 6, "time": 1.5, "train/loss": None, "train/grad_norm": None},
    ]


def test_truncation_drops_later_steps_and_a_half_written_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st')
    truncate_metrics(path, 2)
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'


def test_write_json_has_no_nan(tmp_path):
    write_json(tmp_path / "s.json", {"a": float("nan"), "b": [1.0, float("inf")], "c": "ü"})
    assert json.loads((tmp_path / "s.json").read_text()) == {"a": None, "b": [1, None], "c": "ü"}


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}


def offline_records(folder):
    """Yields the records of an offline run: protobufs in LevelDB's log format, 32 KiB blocks."""
    from wandb.proto import wandb_internal_pb2

    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    data, position, pieces = path.read_bytes(), 7, []  # 7 bytes of file header
    while position + 7 <= len(data):
        if 32768 - position % 32768 < 7:  # no room for a header: the block ends in padding
            position += 32768 - position % 32768
        length, kind = struct.unpack_from("<HB", data, position + 4)  # after a checksum
        pieces.append(data[position + 7 : position + 7 + length])
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(b"".join(pieces))
            pieces = []
            yield record


def test_an_offline_wandb_run_holds_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = {"norm": {"eps": 1e-6}, "init": {"mean": 0.2}, "seed": 3}
    settings = wandb_settings(
        tmp_path, config, project="p", group="g", name="n" * 200, tags=["transformer", "rmsnorm"]
    )
    with Tracker(tmp_path, settings) as tracker:
        tracker.log(5, 1.25, {"train/loss": 2.5, "train/step_ms": 7.0})
        tracker.log(10, 2.5, {"dev/bleu": 12.0})
        tracker.finish({"status": "completed", "test": {"t": {"bleu": 30.0}}})
    history, summary, configured, runs = [], {}, {}, []
    for record in offline_records(tmp_path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            items = record.history.item
            history.append(
                {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
            )
        elif kind == "summary":
            for i in record.summary.update:
                summary[i.key or "/".join(i.nested_key)] = json.loads(i.value_json)
        elif kind == "config":
            for i in record.config.update:
                configured[i.key or ".".join(i.nested_key)] = json.loads(i.value_json)
        elif kind == "run":
            runs.append(record.run)
            for i in record.run.config.update:
                configured[i.key or ".".join(i.nested_key)] = json.loads(i.value_json)
    assert [(h["_step"], h["time"]) for h in history] == [(5, 1.25), (10, 2.5)]
    assert history[0]["train/loss"] == 2.5 and history[0]["train/step_ms"] == 7.0
    assert history[1]["dev/bleu"] == 12.0
    assert summary["status"] == "completed" and summary["test.t.bleu"] == 30.0
    assert configured["init.mean"] == 0.2 and configured["norm"] == {"eps": 1e-6}
    assert runs[0].run_group == "g" and len(runs[0].display_name) < 128
    assert list(runs[-1].tags) == ["transformer", "rmsnorm", "completed"]


def test_a_failing_job_leaves_no_open_wandb_run(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    settings = wandb_settings(tmp_path, {}, project="p", group="g", name="n", tags=[])
    with pytest.raises(RuntimeError, match="boom"), Tracker(tmp_path, settings):
        raise RuntimeError("boom")
    assert wandb.run is None


def test_without_a_key_the_run_is_offline(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = wandb_settings(tmp_path, {}, project="p", group="g", name="n", tags=[])
    assert settings["mode"] == "offline"
