"""normlab's trainer and search beside another toolkit's: one model, one corpus, the same subwords.

The toolkit runs in an environment of its own, by its own commands; joeynmt.py and eole.py know
them. It reads our subwords: their numbers are the words of a text file.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import torch

from normlab.errors import UserError
from normlab.runs import components
from normlab.runs.config import Config, parse_config
from normlab.runs.loaded import load_translator
from normlab.runs.sweeps import compose_job
from normlab.tasks.translation.batching import EncodedBitext
from normlab.tasks.translation.encoding import EncodedCorpus
from normlab.tasks.translation.scoring import score
from normlab.tasks.translation.task import Translation
from normlab.tasks.translation.tokenizer import decode

SOURCES = Path(__file__).parents[2]  # where the package normlab lies
OURS = {"normlab, fp32": "fp32", "normlab, bf16": "bf16"}


class Peer(Protocol):
    """Another toolkit, with the Transformer, optimiser and data of a normlab config."""

    name: str  # "JoeyNMT"
    version: str  # "2.3"
    precisions: Sequence[str]  # that it has on a CPU, fp32 first
    dev_metric: str  # which of our metrics its dev loss is
    differs: str  # what it does otherwise than our trainer, and cannot be told not to

    def train(
        self, name: str, precision: str, steps: int, log_every: int, dev: str = "dev"
    ) -> tuple[list[float], list[float]]:
        """Trains `steps` steps; returns target tokens/s of each log interval and the dev losses.

        `dev` names the file that is evaluated after the last step ("head": eight sentences).
        """

    def translate(self, name: str, beam: int) -> dict[str, tuple[float, list[str]]]:
        """Returns seconds and translations of the test set by the fp32 model `name`.

        By each way of decoding that there is, its own first.
        """


class Files:
    """The corpus as files of subword numbers in `folder`, and how they become text again."""

    def __init__(self, folder: Path, encoded: EncodedCorpus):
        self.folder, self.tokenizer = folder, encoded.tokenizer
        folder.mkdir(parents=True, exist_ok=True)
        write_ids(encoded.train, folder / "train")
        write_ids(encoded.dev, folder / "dev")
        write_ids(next(iter(encoded.test.values())), folder / "test")
        write_ids(_head(encoded.dev, 8), folder / "head")
        self.words = encoded.tokenizer.get_vocab_size()
        words = map(str, range(self.words))
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")

    def texts(self, lines: Sequence[str]) -> list[str]:
        """Returns lines of subword numbers as text; what is no number is left out."""
        ids = [[int(word) for word in line.split() if word.isdigit()] for line in lines]
        return decode(self.tokenizer, ids)


def write_ids(data: EncodedBitext, prefix: Path) -> None:
    """Writes PREFIX.src and PREFIX.tgt: a sentence a line, its ids without EOS as words."""
    sides = {"src": (data.src_ids, data.src_offsets), "tgt": (data.tgt_ids, data.tgt_offsets)}
    for side, (ids, offsets) in sides.items():
        lines = (
            " ".join(map(str, ids[start : end - 1].tolist()))
            for start, end in zip(offsets, offsets[1:], strict=False)
        )
        Path(f"{prefix}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _head(data: EncodedBitext, n: int) -> EncodedBitext:
    """Returns the first `n` pairs."""
    ends = data.src_offsets[: n + 1], data.tgt_offsets[: n + 1]
    return EncodedBitext(data.src_ids, ends[0], data.tgt_ids, ends[1])


def run(command: Sequence[str | Path], **environment: str) -> str:
    """Returns all that a command prints; raises UserError when it fails.

    It may use as many threads as this process does.
    """
    threads = {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **threads, **environment}
    )
    printed = done.stdout + done.stderr
    if done.returncode:
        shown = " ".join(map(str, command))
        raise UserError(f"{shown} ended with exit code {done.returncode}:\n{printed[-2000:]}")
    return printed


def check_installed(python: Path, package: str) -> None:
    """Raises UserError unless `python` can import `package`."""
    found = subprocess.run([python, "-c", f"import {package}"], capture_output=True, text=True)
    if found.returncode:
        reason = found.stderr.strip().split("\n")[-1]
        raise UserError(f"{python} has no {package} ({reason}): pip install {package} there.")


class Normlab:
    """normlab as a user runs it: train.py with `overrides`, its runs in `folder`, an empty one."""

    def __init__(self, folder: Path, overrides: list[str]):
        if folder.exists() and any(folder.iterdir()):  # a finished run there would not run again
            raise UserError(f"{folder} has files of an earlier benchmark: delete it first.")
        self.folder, self.overrides = folder, overrides

    def train(
        self, name: str, precision: str, steps: int, log_every: int, metric: str = "dev/nll"
    ) -> tuple[list[float], list[float]]:
        """Trains `steps` steps; returns target tokens/s of each log interval and dev `metric`."""
        overrides = [
            *self.overrides,
            "logger=none",
            f"hydra.run.dir={self.folder / name}",
            f"trainer.precision={precision}",
            f"trainer.max_steps={steps}",
            f"trainer.log_every={log_every}",
            f"trainer.eval_every={steps}",
            f"trainer.threads={torch.get_num_threads()}",
            "trainer.device=cpu",  # as the others
            "decoding.beam=1",
        ]
        run([sys.executable, "-m", "normlab", "train", *overrides])
        lines = (self.folder / name / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
        metrics = [json.loads(line) for line in lines if line]
        speeds = [m["train/items_per_second"] for m in metrics if "train/loss" in m]
        return speeds, [m[metric] for m in metrics if metric in m]


def training_times(
    peer: Peer, ours: Normlab, rounds: int, steps: int = 120, log_every: int = 30
) -> dict[str, list[float]]:
    """Returns seconds per 1,000 target tokens of each system, one value a round.

    A round starts each system once, in random order; the first log interval is warm-up.
    """
    theirs = {f"{peer.name}, {precision}": precision for precision in peer.precisions}
    times: dict[str, list[float]] = {name: [] for name in (*theirs, *OURS)}
    order = list(times)
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        shuffle(order)
        for name in order:
            if name in theirs:
                speeds, _ = peer.train("speed", theirs[name], steps, log_every, dev="head")
            else:
                speeds, _ = ours.train(f"{OURS[name]}_{number}", OURS[name], steps, log_every)
            times[name].append(1000 / median(speeds[1:]))
    return times


def workload(conf: Path, overrides: list[str]) -> tuple[Config, Translation]:
    """Returns the config and the task; raises UserError for a task or model no peer has."""
    config = parse_config(compose_job(conf, overrides))
    task = components.build_task(config)
    if not isinstance(task, Translation):
        raise UserError("other toolkits are compared in translation: leave task=translation.")
    if not config.names.model.startswith("transformer"):
        raise UserError(f"model={config.names.model}: only Transformers are compared.")
    return config, task


def benchmark(
    peer: Peer, ours: Normlab, task: Translation, rounds: int, steps: int
) -> dict[str, Any]:
    """Returns the records of training and decoding of both, and their losses and BLEU."""
    times = training_times(peer, ours, rounds)
    baseline = next(iter(times))
    work = {"count": 1000, "of": "target tokens"}
    title = "training, per 1,000 target tokens"
    records: list[dict[str, Any]] = [
        {"title": title, "baseline": baseline, "work": work, "times": times, "processes": rounds}
    ]

    losses = {baseline: peer.train("trained", "fp32", steps, 50)[1][-1]}
    for name, precision in OURS.items():
        found = ours.train(f"{precision}_trained", precision, steps, 50, peer.dev_metric)
        losses[name] = found[1][-1]

    (test_name, test), *_ = task.corpus.test.items()
    translator = load_translator(ours.folder / "fp32_trained", device="cpu")
    decoding: dict[str, list[float]] = {}
    bleu: dict[str, dict[str, float]] = {}
    for beam, repeats in ((1, 1), (5, rounds)):
        for _ in range(repeats):
            found_by = peer.translate("trained", beam)
            started = time.perf_counter()
            outputs, _ = translator(list(test.src), beam=beam)
            found_by["normlab"] = time.perf_counter() - started, outputs
            for name, (seconds, texts) in found_by.items():
                bleu.setdefault(f"beam {beam}", {})[name] = score(texts, test.tgt)["bleu"]
                if beam > 1:
                    decoding.setdefault(name, []).append(seconds)
    work = {"count": len(test.src), "of": "sentences"}
    title = f"beam 5, {test_name}, fp32"
    first = next(iter(decoding))
    records.append({"title": title, "baseline": first, "work": work, "times": decoding})
    method = [
        "Training: every variant a process of its own, started once per round in random order; the",
        "steps up to the first log line left out. Ratios within a round, with their t interval",
        "over rounds (95 %).",
    ]
    of = {"dev/nll": "Dev NLL", "dev/loss": "Label-smoothed dev loss"}[peer.dev_metric]
    notes = [
        f"One Transformer, schedule, batch limit and subwords. {peer.name}: {peer.differs}",
        "Decoding: seconds as each prints them, without loading; normlab, in this process, reads",
        "and writes text in that time, the others numbers of subwords. Ratios there are of rounds,",
        "with their bootstrap interval. normlab keeps freed memory (runs/environment.py).",
        f"{of} per token after {steps} steps: {_listed(losses, '.2f')}.",
        *(f"BLEU of {test_name}, {beam}: {_listed(each, '.1f')}." for beam, each in bleu.items()),
    ]
    return {
        "name": peer.name.lower(),
        "title": f"normlab and {peer.name} {peer.version}",
        "records": records,
        "notes": notes,
        "method": method,
    }


def _listed(numbers: dict[str, float], form: str) -> str:
    return ", ".join(f"{name} {number:{form}}" for name, number in numbers.items())
