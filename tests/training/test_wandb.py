"""The W&B run says what metrics.jsonl says, and never ends a run."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from processes import wait_for

from normlab.training.tracking import Tracker
from normlab.training.wandb import wandb_run, wandb_settings


def settings_of(folder):
    return wandb_settings(folder, {}, project="p", group="g", name="n", tags=[])


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


def whole_records(folder):
    """Returns all of them once the last is there: W&B's own process writes on after the end."""
    from google.protobuf.message import DecodeError

    try:
        records = list(offline_records(folder))
    except DecodeError:
        return None
    return records if any(r.WhichOneof("record_type") == "exit" for r in records) else None


@pytest.mark.slow
def test_an_offline_wandb_run_holds_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    config = {"norm": {"eps": 1e-6}, "init": {"mean": 0.2}, "seed": 3}
    with (
        wandb_run(
            lambda: wandb_settings(
                tmp_path, config, project="p", group="g", name="n" * 200,
                tags=["transformer", "rmsnorm"],
            )
        ) as dashboard,
        Tracker(tmp_path / "metrics.jsonl", dashboard) as tracker,
    ):  # fmt: skip
        tracker.log(5, 1.25, {"train/loss": 2.5, "train/step_ms": 7.0})
        tracker.log(10, 2.5, {"dev/bleu": 12.0})
        tracker.finish({"status": "completed", "test": {"t": {"bleu": 30.0}}})
    history, summary, configured, runs = [], {}, {}, []
    for record in wait_for(lambda: whole_records(tmp_path)):
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


@pytest.mark.slow
def test_a_failing_job_leaves_no_open_wandb_run(tmp_path, monkeypatch):
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(RuntimeError, match="boom"), wandb_run(lambda: settings_of(tmp_path)):
        raise RuntimeError("boom")
    assert wandb.run is None


def test_without_a_key_the_run_is_offline(tmp_path, monkeypatch):
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings_of(tmp_path)["mode"] == "offline"


@pytest.mark.slow
def test_a_resumed_run_goes_on_under_its_id_and_sync_finds_both_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    for step in (1, 2):
        with (
            wandb_run(lambda: settings_of(tmp_path)) as dashboard,
            Tracker(tmp_path / "metrics.jsonl", dashboard) as tracker,
        ):
            tracker.log(step, 1.0, {"train/loss": 1.0})
    parts = sorted(map(str, tmp_path.glob("wandb/offline-run-*")))
    identity = (tmp_path / "wandb" / "id").read_text()
    assert parts and all(identity in Path(part).name for part in parts)
    command = [sys.executable, "-m", "wandb", "sync", "--dry-run", *parts]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert f"Would sync {len(parts)} run(s)" in done.stdout + done.stderr


def test_a_run_that_cannot_be_opened_is_reported_and_absent(caplog):
    def refuse():
        raise RuntimeError("no such project\nmore")

    with wandb_run(refuse) as dashboard:
        assert dashboard is None
    assert "W&B cannot be used (no such project): going on without it." in caplog.text


@pytest.mark.slow
def test_a_run_that_fails_later_is_left_alone_after_one_message(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("WANDB_MODE", "offline")
    with wandb_run(lambda: settings_of(tmp_path)) as dashboard:
        dashboard.log(1, {"a": object()})  # W&B cannot store that
        dashboard.log(2, {"a": object()})
        dashboard.finish({"status": "completed"})
    assert caplog.text.count("going on without it") == 1
