"""Work in slices: what a deadline cuts off goes on elsewhere, and nothing is done twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY

from normlab.errors import UserError
from normlab.runs.time_slices import Command, Queue, pack, unpack

ROOT = Path(__file__).parents[2]


def python(name, code, **options):
    return Command(name, [sys.executable, "-c", code], **options)


def test_commands_run_once_and_what_failed_again_in_the_next_slice(tmp_path):
    commands = [python("bad", "raise SystemExit(3)"), python("good", "print('out')")]
    said = []
    assert not Queue(tmp_path).run(commands, 60, parallel=2, say=said.append)
    again = Queue(tmp_path)
    assert {name: ended["code"] for name, ended in again.ended.items()} == {"good": 0, "bad": 3}
    assert again.failed(commands) == ["bad"]
    assert again.run(commands[1:], 60, parallel=1)  # of a plan that has it no longer
    mended = [python("bad", ""), *commands[1:], python("new", "")]
    assert again.run(mended, 60, parallel=1, say=said.append) and not again.failed(mended)
    starts = [line for line in said if line.startswith("start")]
    assert starts[2:] == ["start: new", "start: bad"]
    assert "out" in (tmp_path / "logs" / "good.log").read_text()


@pytest.mark.slow
def test_at_the_deadline_a_command_is_asked_to_stop_and_goes_on_in_the_next_slice(tmp_path):
    flag = tmp_path / "flag"
    code = (
        "import pathlib, signal, sys, time\n"
        f"flag = pathlib.Path({str(flag)!r})\n"
        "signal.signal(signal.SIGTERM, lambda *_: (flag.touch(), sys.exit(130)))\n"
        "time.sleep(0 if flag.exists() else 60)\n"
    )
    commands = [python("long", code)]
    assert not Queue(tmp_path).run(commands, 2, parallel=1)
    assert flag.exists() and "long" not in Queue(tmp_path).ended
    assert Queue(tmp_path).run(commands, 60, parallel=1)


@pytest.mark.slow
def test_nothing_runs_beside_what_measures_time(tmp_path):
    code = "import time, sys; print(time.monotonic()); time.sleep(0.3); print(time.monotonic())"
    commands = [python("a", code, alone=True), python("b", code), python("c", code, alone=True)]
    assert Queue(tmp_path).run(commands, 60, parallel=3)
    spans = []
    for name in "abc":
        lines = (tmp_path / "logs" / f"{name}.log").read_text().split("\n")
        spans.append(tuple(float(line) for line in lines if line and line[0].isdigit()))
    for (_, end), (start, _) in zip(spans, spans[1:], strict=False):
        assert end <= start


def test_packed_files_come_back_and_what_does_not_fit_is_named(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    for name, size in (("a/small", 10), ("b/noise", 5000), ("c/large", 100_000)):
        (here / name).parent.mkdir(parents=True)
        (here / name).write_bytes(os.urandom(size))
    files = [here / name for name in ("a/small", "c/large", "b/noise")]
    left_out = pack(here, files, tmp_path / "out", part_bytes=2000)
    assert left_out == [here / "c/large"]
    assert all(part.stat().st_size <= 2000 for part in (tmp_path / "out").iterdir())
    unpack(tmp_path / "out", there)
    for name in ("a/small", "b/noise"):
        assert (there / name).read_bytes() == (here / name).read_bytes()
    (tmp_path / "out" / "state.001").unlink()
    with pytest.raises(UserError, match="is damaged"):
        unpack(tmp_path / "out", there)
    with pytest.raises(UserError, match="holds no state"):
        unpack(tmp_path, there)


def test_the_checkpoints_of_a_run_are_packed_together_or_not_at_all(tmp_path):
    files = [tmp_path / name for name in ("a/last.pt", "a/best_1.pt", "b/last.pt")]
    for file, size in zip(files, (2000, 100_000, 2000), strict=True):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(os.urandom(size))
    left_out = pack(tmp_path, files, tmp_path / "out", part_bytes=2000)
    assert left_out == files[:2]  # last.pt by itself would be a state without its best weights


@pytest.mark.long
def test_gpu_py_goes_on_from_the_packed_files_of_an_earlier_slice(tmp_path):
    plan = tmp_path / "plan.toml"
    plan.write_text(
        'commands = [{name = "hello", command = "python -c print(1)"}]\nsweeps = ["main/smoke"]\n'
    )

    def slice_(folder, minutes, *arguments):
        folder.mkdir()
        for name in ("train.py", "conf", "experiments"):
            (folder / name).symlink_to(ROOT / name)
        command = [
            sys.executable,
            str(ROOT / "scripts/gpu.py"),
            "--plan",
            str(plan),
            "--out",
            "out",
        ]
        options = [f"--minutes={minutes}", "--parallel=2", *arguments]
        sizes = [o for o in TINY if not o.startswith("trainer.")]
        lengths = ["trainer.checkpoint_every=20", "trainer.eval_every=50"]
        cache = f"data.cache_dir={tmp_path}/cache"
        done = subprocess.run(
            [*command, *options, *sizes, *lengths, cache],
            cwd=folder, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    for minutes in (0.3, 0.6, 1.2):  # a busy machine may not have begun to train before
        folder = tmp_path / f"{minutes}"
        first = slice_(folder, minutes, "trainer.max_steps=1000000")  # no machine is as fast
        assert "not finished" in first and first.count("stopped: main/smoke") == 2
        if any(folder.glob("runs/**/last.pt")):
            break
    state = ["--state", str(folder / "out")]
    second = slice_(tmp_path / "b", 4, *state, "trainer.max_steps=300")
    assert "all of the plan has ended" in second and "hello" not in second
    ended = list((tmp_path / "b").glob("results/main/smoke/**/summary.json"))
    assert len(ended) == 2
    segments = [len(json.loads(path.read_text())["segments"]) for path in ended]
    assert 2 in segments  # of one, at least
