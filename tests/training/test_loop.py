"""The loop on a model of a few numbers: limits, interrupts, divergence, exact resume."""

import json
import os
import signal
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch
from normlab.data.batching import EncodedBitext, collate, epoch_batches
from normlab.data.tokenizer import EOS
from normlab.schema import Trainer
from torch import nn

from normlab.models.dropout import Dropout
from normlab.training.checkpoint import Checkpoints
from normlab.training.loop import train
from normlab.training.schedules import constant
from normlab.training.tracking import Tracker, truncate_metrics

CPU = torch.device("cpu")
SETTINGS = Trainer(
    max_steps=30, max_epochs=None, max_minutes=None, batch_tokens=24, accumulate=2,
    label_smoothing=0.1, clip=1.0, log_every=4, eval_every=5, eval_beam=1, patience=None,
    checkpoint_every=7, keep=2, average=0, test_beam=1, length_penalty=0.6, precision="fp32",
    compile=False, device="cpu", threads=None, deterministic=False,
)  # fmt: skip


class Bigram(nn.Module):
    """Predicts a target token from the one before it; has what the loop needs of a Seq2Seq."""

    def __init__(self, vocab=12, width=6):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.softmax = nn.Linear(width, vocab)
        self.dropout = Dropout(0.3)

    def encode(self, src, src_lengths):
        return None

    def decode(self, memory, tgt_in):
        return self.dropout(self.embedding(tgt_in))

    def output(self):
        return self.softmax.weight, self.softmax.bias


def bitext(sentences=40):
    rng = np.random.default_rng(1)
    lengths = rng.integers(2, 7, sentences)
    offsets = np.concatenate(([0], lengths.cumsum()))
    ids = rng.integers(3, 12, offsets[-1]).astype(np.int32)
    ids[offsets[1:] - 1] = EOS
    return EncodedBitext(ids, offsets, ids, offsets)


DATA = bitext()


def batches_of(epoch):
    batches = epoch_batches(
        DATA.src_lengths, DATA.tgt_lengths, batch_tokens=24, pool=100, seed=1, epoch=epoch
    )
    return [partial(collate, DATA, batch) for batch in batches]


@dataclass
class Outcome:
    progress: object
    model: nn.Module
    metrics: list


def run(folder, settings=SETTINGS, lr=0.05, bleus=None, on_metrics=lambda p, m: None):
    """Starts or resumes training in `folder`, as run.py does."""
    torch.manual_seed(1)
    model = Bigram()
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    checkpoints = Checkpoints(folder / "checkpoints", settings.keep)
    last = checkpoints.load_last()
    truncate_metrics(folder / "metrics.jsonl", last["progress"]["step"] if last else 0)
    scores = iter(bleus or [])

    def evaluate():
        return {"dev/bleu": next(scores, 0.0), "dev/loss": model.embedding.weight.sum().item()}

    with Tracker(folder) as tracker:
        progress = train(
            model, optimizer, partial(constant, lr=lr, warmup=3), batches_of, evaluate, settings,
            tracker, checkpoints, CPU, on_metrics,
        )  # fmt: skip
    text = (folder / "metrics.jsonl").read_text()
    return Outcome(progress, model, [json.loads(line) for line in text.split("\n") if line])


def comparable(metrics):
    """What two runs must agree on: everything but the clock."""
    clock = ("time", "train/tokens_per_second", "train/step_ms")
    return [{k: v for k, v in line.items() if k not in clock} for line in metrics]


def test_interrupted_and_resumed_is_bit_identical(tmp_path):
    """Mid-epoch, between log lines, with dropout on and accumulation."""
    uncut, parts = tmp_path / "uncut", tmp_path / "parts"
    uncut.mkdir(), parts.mkdir()
    whole = run(uncut)
    kills = iter([4, 10, 20])
    stop_at = next(kills)

    def interrupt(progress, metrics):
        if progress.step == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)

    outcome = run(parts, on_metrics=interrupt)
    interrupted = 0
    while outcome.progress.status == "interrupted":
        interrupted += 1
        stop_at = next(kills, None)
        outcome = run(parts, on_metrics=interrupt)
    assert interrupted == 3
    assert outcome.progress.status == whole.progress.status == "completed"
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, outcome.model.state_dict()[name]), name
    assert comparable(outcome.metrics) == comparable(whole.metrics)


def test_logged_at_the_interval_and_at_the_end(tmp_path):
    metrics = run(tmp_path).metrics
    logged = [line["step"] for line in metrics if "train/loss" in line]
    assert logged == [4, 8, 12, 16, 20, 24, 28, 30]
    assert [line["step"] for line in metrics if "dev/bleu" in line] == [5, 10, 15, 20, 25, 30]
    keys = {"step", "time", "train/loss", "train/nll", "train/grad_norm", "train/lr",
            "train/tokens_per_second", "train/step_ms"}  # fmt: skip
    assert set(metrics[0]) == keys
    assert all(a["time"] <= b["time"] for a, b in zip(metrics, metrics[1:], strict=False))


def test_accumulation_of_two_equals_one_batch_of_both(tmp_path):
    """Loss and gradient are sums over all tokens of a step, divided once."""

    def grad_norm(folder, accumulate, makers):
        folder.mkdir()
        torch.manual_seed(1)
        model = Bigram()
        model.dropout = nn.Identity()
        settings = replace(SETTINGS, max_steps=1, accumulate=accumulate)
        with Tracker(folder) as tracker:
            train(
                model, torch.optim.SGD(model.parameters()), partial(constant, lr=0.1, warmup=0),
                lambda epoch: makers, lambda: {"dev/bleu": 0.0}, settings, tracker,
                Checkpoints(folder / "checkpoints"), CPU,
            )  # fmt: skip
        first = json.loads((folder / "metrics.jsonl").read_text().split("\n")[0])
        return first["train/loss"], first["train/grad_norm"]

    short, long = np.arange(3), np.arange(3, 11)
    two = grad_norm(tmp_path / "2", 2, [partial(collate, DATA, part) for part in (short, long)])
    one = grad_norm(tmp_path / "1", 1, [partial(collate, DATA, np.concatenate((short, long)))])
    assert two == pytest.approx(one, rel=1e-5)


@pytest.mark.parametrize("log_every", [1, 4, 100])
def test_divergence_is_recorded_with_its_step_and_saves_nothing_broken(tmp_path, log_every):
    # Adam's first step moves every weight by lr: logits overflow in the second.
    outcome = run(tmp_path, replace(SETTINGS, log_every=log_every, checkpoint_every=1), lr=1e30)
    assert outcome.progress.status == "diverged"
    assert outcome.progress.diverged_at == 2
    assert outcome.metrics[-1]["train/loss"] is None
    last = Checkpoints(tmp_path / "checkpoints").load_last()
    assert last["progress"]["step"] == 1
    assert all(value.isfinite().all() for value in last["model"].values())


def test_limits(tmp_path):
    def steps(**limits):
        settings = replace(SETTINGS, **{"max_steps": None, **limits})
        folder = tmp_path / repr(limits)
        folder.mkdir()
        return run(folder, settings).progress.step

    per_epoch = len(batches_of(0))
    assert steps(max_epochs=2, accumulate=1) == sum(len(batches_of(epoch)) for epoch in (0, 1))
    assert steps(max_steps=3) == 3
    assert steps(max_minutes=1e-9) == 1
    assert per_epoch > 2


def test_patience_counts_evaluations_without_a_better_bleu(tmp_path):
    bleus = [1.0, 3.0, 2.0, 2.5, 9.0]
    outcome = run(tmp_path, replace(SETTINGS, patience=2), bleus=bleus)
    assert outcome.progress.step == 20  # evaluations at 5, 10, 15, 20
    assert (outcome.progress.best_bleu, outcome.progress.best_step) == (3.0, 10)
    best = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)
    assert best["step"] == 10
    last = Checkpoints(tmp_path / "checkpoints").load_last()
    assert last["progress"]["step"] == 20


def test_a_larger_limit_continues_a_finished_run(tmp_path):
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = run(tmp_path / "whole", replace(SETTINGS, max_steps=28))
    run(tmp_path / "parts", replace(SETTINGS, max_steps=8))
    resumed = run(tmp_path / "parts", replace(SETTINGS, max_steps=28))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name])


def test_clipping_bounds_the_step_and_reports_the_norm_before(tmp_path):
    loose, tight = tmp_path / "loose", tmp_path / "tight"
    loose.mkdir(), tight.mkdir()
    settings = replace(SETTINGS, max_steps=1)
    a, b = run(loose, replace(settings, clip=None)), run(tight, replace(settings, clip=1e-3))
    assert a.metrics[0]["train/grad_norm"] == b.metrics[0]["train/grad_norm"] > 1e-3
