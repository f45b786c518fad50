"""Checkpoints survive what happens to files, and are never another's."""

import errno
import random
import shutil

import pytest
import torch

from normlab import files
from normlab.errors import UserError
from normlab.training.checkpoint import Checkpoints, digest, read_checkpoint


def state(value):
    return {"model": {"w": torch.full((3,), float(value)), "n": torch.tensor(7)}, "step": value}


def save(checkpoints, *steps):
    for step in steps:
        checkpoints.save_state(state(step), step, regular=True)


def test_last_best_and_the_newest_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=2)
    save(checkpoints, 1, 2, 3)
    checkpoints.save_weights("best", state(2)["model"], value=1.5)
    names = sorted(path.name for path in checkpoints.folder.iterdir())
    assert names == ["best.pt", "last.pt", "step_00000002.pt", "step_00000003.pt"]
    assert checkpoints.newest_state()["step"] == 3
    assert checkpoints.read("best")["value"] == 1.5
    assert torch.load(checkpoints.folder / "last.pt", weights_only=True)["model"]["w"][0] == 3


def test_a_state_between_the_intervals_is_the_last_one_and_no_regular_one(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 10, 20)
    checkpoints.save_state(state(23), 23, regular=False)
    assert checkpoints.newest_state()["step"] == 23
    assert [path.name for path in checkpoints.regular()] == ["step_00000010.pt", "step_00000020.pt"]


def test_a_truncated_checkpoint_falls_back_to_the_one_before_and_says_so(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep=2)
    save(checkpoints, 1, 2)
    newest = checkpoints.regular()[-1]  # last.pt is another name of the same file
    newest.write_bytes(newest.read_bytes()[:100])
    assert checkpoints.newest_state()["step"] == 1
    assert "last.pt is truncated or damaged" in caplog.text
    assert "step_00000002.pt is truncated or damaged" in caplog.text
    assert "Falling back" in caplog.text


def test_no_checkpoint_is_a_fresh_start_and_no_readable_one_an_error(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest_state() is None
    (tmp_path / "step_00000001.pt").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        checkpoints.newest_state()
    with pytest.raises(UserError, match="there is no checkpoint"):
        checkpoints.read("best")


def test_a_flipped_bit_never_gives_other_content(tmp_path):
    """Of 200 flips, one at a random place each: the same content, or an error that names the file.

    The container has bytes that mean nothing (padding, time stamps): flips there may be read.
    """
    checkpoints = Checkpoints(tmp_path)
    weights = {"w": torch.randn(16, 16), "b": torch.zeros(16)}
    checkpoints.save_weights("best", weights, step=20, value=0.5)
    path = tmp_path / "best.pt"
    intact, expected = path.read_bytes(), digest(checkpoints.read("best"))
    flips, refused = random.Random(11), 0
    for _ in range(200):
        damaged = bytearray(intact)
        damaged[flips.randrange(len(damaged))] ^= 1 << flips.randrange(8)
        path.write_bytes(damaged)
        try:
            content = read_checkpoint(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:
            assert digest(content) == expected
    assert refused > 60


def test_another_owners_checkpoint_is_refused(tmp_path):
    ours = Checkpoints(tmp_path, owner={"config": "a", "data": "b"})
    Checkpoints(tmp_path, owner={"config": "c", "data": "b"}).save_weights(
        "best", state(1)["model"]
    )
    with pytest.raises(UserError, match=r"best\.pt belongs to another run: its config differ"):
        ours.read("best")


def test_a_full_disk_is_one_sentence_and_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path, keep=1)
    save(checkpoints, 1)

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(UserError, match=r"no disk space for checkpoint .*step_00000002\.pt"):
        save(checkpoints, 2)
    assert checkpoints.newest_state()["step"] == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_average_is_the_mean_of_the_newest(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    save(checkpoints, 1, 2, 6)
    average, count = checkpoints.average(2, state(6)["model"], 6)
    assert count == 2
    assert average["w"].tolist() == [4, 4, 4]
    assert average["n"] == 7
    assert average["w"].dtype == torch.float32
    # a copy of the folder does not keep that two names were one file
    other = shutil.copytree(tmp_path, tmp_path.with_name("copy"))
    again, count = Checkpoints(other, keep=3).average(2, state(6)["model"], 6)
    assert count == 2 and again["w"].tolist() == [4, 4, 4]


def test_average_takes_the_end_of_training_too_when_it_lies_between_the_intervals(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    save(checkpoints, 1, 2, 6)
    checkpoints.save_state(state(10), 10, regular=False)
    average, count = checkpoints.average(2, state(10)["model"], 10)
    assert (count, average["w"].tolist()) == (2, [8, 8, 8])


def test_average_of_fewer_than_asked_for_says_how_many(tmp_path, caplog):
    checkpoints = Checkpoints(tmp_path, keep=5)
    checkpoints.save_state(state(3), 3, regular=False)
    average, count = checkpoints.average(5, state(3)["model"], 3)
    assert (count, average["w"].tolist()) == (1, [3, 3, 3])
    assert "Averaging 1 checkpoints, not 5" in caplog.text
