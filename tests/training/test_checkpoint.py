"""Checkpoints survive what happens to files."""

import errno
import os

import pytest
import torch

from normlab.errors import UserError
from normlab.training import checkpoint
from normlab.training.checkpoint import Checkpoints, load


def state(value):
    return {"model": {"w": torch.full((3,), float(value)), "n": torch.tensor(7)}, "step": value}


def test_last_best_and_the_newest_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    for step in (1, 2, 3):
        checkpoints.save_state(state(step), step)
    checkpoints.save_weights("best", state(2)["model"], bleu=1.5)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["best.pt", "last.pt", "step_00000002.pt", "step_00000003.pt"]
    assert checkpoints.load_last()["step"] == 3
    assert torch.load(checkpoints.folder / "last.pt", weights_only=True)["model"]["w"][0] == 3


def test_a_truncated_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save_state(state(step), step)
    newest = checkpoints.steps()[-1]
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.load_last()["step"] == 1
    assert "step_00000002.pt is truncated or damaged" in caplog.text
    assert "Falling back" in caplog.text


def test_no_checkpoint_is_a_fresh_start_and_no_readable_one_an_error(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.load_last() is None
    (tmp_path / "step_00000001.pt").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        checkpoints.load_last()
    with pytest.raises(UserError, match="there is no checkpoint"):
        load(tmp_path / "best.pt")


def test_a_full_disk_is_one_sentence_and_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save_state(state(1), 1)

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(UserError, match=r"no disk space for checkpoint .*step_00000002\.pt"):
        checkpoints.save_state(state(2), 2)
    assert checkpoints.load_last()["step"] == 1
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux")
def test_the_system_reports_a_full_disk_as_we_expect():
    with pytest.raises(OSError) as caught, open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC


def test_average_is_the_mean_of_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 6):
        checkpoints.save_state(state(step), step)
    average = checkpoints.average(2)
    assert average["w"].tolist() == [4, 4, 4]
    assert average["n"] == 7
    assert average["w"].dtype == torch.float32
