"""normlab's trainer beside JoeyNMT's: one model, one corpus, one subword segmentation.

JoeyNMT runs in an environment of its own (`pip install joeynmt importlib_metadata`), by its own
command. Both read the same subwords: JoeyNMT gets our ids as words of a text file.
"""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from normlab.data.batching import EncodedBitext
from normlab.data.prepare import Prepared
from normlab.data.tokenizer import decode
from normlab.errors import UserError
from normlab.schema import Config

BASELINE = "JoeyNMT, fp32"
OURS = {"normlab, fp32": "fp32", "normlab, bf16": "bf16"}  # JoeyNMT has no bf16 on a CPU

SPEED = re.compile(r"Tokens per Sec:\s+(\d+)")
DEV_LOSS = re.compile(r"Evaluation result.*loss:\s+([\d.]+).*ppl:\s+([\d.]+)")
SECONDS = re.compile(r"Generation took ([\d.]+)\[sec\]")


class JoeyNMT:
    """JoeyNMT 2.3 with the Transformer, optimiser and data of a normlab config.

    `python` is the interpreter of its environment; everything it writes lies in `folder`.
    """

    def __init__(self, python: Path, folder: Path, config: Config, prepared: Prepared):
        found = subprocess.run([python, "-c", "import joeynmt"], capture_output=True, text=True)
        if found.returncode:
            reason = found.stderr.strip().split("\n")[-1]
            raise UserError(f"{python} has no JoeyNMT ({reason}): pip install joeynmt there.")
        self.python, self.folder = python, folder
        self.config, self.tokenizer = config, prepared.tokenizer
        folder.mkdir(parents=True, exist_ok=True)
        write_ids(prepared.train, folder / "train")
        write_ids(prepared.dev, folder / "dev")
        first = next(iter(prepared.test.values()))
        write_ids(first, folder / "test")
        write_ids(head(prepared.dev, 8), folder / "head")
        words = map(str, range(prepared.tokenizer.get_vocab_size()))
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")

    def train(self, name: str, steps: int, log_every: int, dev: str = "dev") -> tuple[list, list]:
        """Trains `steps` steps; returns target tokens/s of each log interval and the dev NLLs.

        `dev` names the file that is evaluated after the last step ("head": eight sentences).
        """
        settings = {
            "updates": steps,
            "validation_freq": steps,
            "logging_freq": log_every,
            **self._training(),
        }
        log = self._run("train", name, {"dev": dev, "training": settings}, "--skip-test")
        losses = [float(loss) for loss, _ in DEV_LOSS.findall(log)]
        return [float(speed) for speed in SPEED.findall(log)], losses

    def translate(self, name: str, beam: int) -> tuple[float, list[str]]:
        """Returns the seconds for the test set with the model `name`, and its translations."""
        output = self.folder / name / "output"
        log = self._run("test", name, {"beam": beam}, "--output-path", str(output))
        lines = Path(f"{output}.test").read_text(encoding="utf-8").split("\n")[:-1]
        ids = [[int(word) for word in line.split() if word.isdigit()] for line in lines]
        return float(SECONDS.findall(log)[-1]), decode(self.tokenizer, ids)

    def _training(self) -> dict[str, Any]:
        trainer, schedule = self.config.trainer, self.config.schedule
        return {
            "batch_size": trainer.batch_tokens,
            "batch_type": "token",
            "normalization": "tokens",
            "label_smoothing": trainer.label_smoothing,
            "clip_grad_norm": trainer.clip,
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": schedule.lr,
            "learning_rate_min": 0.0,
            "learning_rate_warmup": schedule.warmup,
            "scheduling": "warmupinversesquareroot",
            "early_stopping_metric": "loss",
            "epochs": 1000,
            "keep_best_ckpts": 1,
            "overwrite": True,
            "print_valid_sents": [],
        }

    def _run(self, mode: str, name: str, options: dict[str, Any], *arguments: str) -> str:
        model = self.config.model
        side = {"level": "word", "voc_file": str(self.folder / "vocab.txt"), "max_length": 1000}
        sizes = {
            "type": "transformer", "hidden_size": model.d_model, "ff_size": model.d_ff,
            "num_heads": model.heads, "dropout": model.dropout,
            "layer_norm": model.norm_placement,
            "embeddings": {
                "embedding_dim": model.d_model, "scale": True, "dropout": model.dropout,
            },
        }  # fmt: skip
        joey = {
            "name": name,
            "model_dir": str(self.folder / name),
            "use_cuda": False,
            "random_seed": self.config.seed,
            "data": {
                "train": str(self.folder / "train"),
                "dev": str(self.folder / options.get("dev", "dev")),
                "test": str(self.folder / "test"),
                "dataset_type": "plain",
                "src": {"lang": "src", **side},
                "trg": {"lang": "tgt", **side},
            },
            "training": options.get("training", {"batch_size": 1}),
            "testing": {
                "beam_size": options.get("beam", 1),
                "beam_alpha": self.config.trainer.length_penalty,
                "batch_size": self.config.trainer.batch_tokens,
                "batch_type": "token",
                "max_output_length": 100,
            },
            "model": {
                "initializer": "xavier_uniform",
                "embed_initializer": "normal",
                "embed_init_weight": model.d_model**-0.5,
                "tied_embeddings": True,
                "tied_softmax": True,
                "encoder": {**sizes, "num_layers": model.encoder_layers},
                "decoder": {**sizes, "num_layers": model.decoder_layers},
            },
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(joey), encoding="utf-8")
        done = subprocess.run(
            [self.python, "-m", "joeynmt", mode, path, *arguments],
            capture_output=True, text=True, env={**os.environ, "TQDM_DISABLE": "1"},
        )  # fmt: skip
        log = done.stdout + done.stderr
        if done.returncode:
            raise UserError(f"JoeyNMT ended with exit code {done.returncode}:\n{log[-2000:]}")
        return log


def head(data: EncodedBitext, n: int) -> EncodedBitext:
    """Returns the first `n` pairs."""
    ends = data.src_offsets[: n + 1], data.tgt_offsets[: n + 1]
    return EncodedBitext(data.src_ids, ends[0], data.tgt_ids, ends[1])


def write_ids(data: EncodedBitext, prefix: Path) -> None:
    """Writes PREFIX.src and PREFIX.tgt: a sentence a line, its ids without EOS as words."""
    sides = {"src": (data.src_ids, data.src_offsets), "tgt": (data.tgt_ids, data.tgt_offsets)}
    for side, (ids, offsets) in sides.items():
        lines = (
            " ".join(map(str, ids[start : end - 1].tolist()))
            for start, end in zip(offsets, offsets[1:], strict=False)
        )
        Path(f"{prefix}.{side}").write_text("\n".join(lines) + "\n", encoding="utf-8")


class Normlab:
    """normlab as a user runs it: train.py with `overrides`, its runs in `folder`."""

    def __init__(self, folder: Path, overrides: list[str]):
        self.folder, self.overrides = folder, overrides

    def train(self, name: str, precision: str, steps: int, log_every: int) -> tuple[list, list]:
        """Trains `steps` steps; returns target tokens/s of each log interval and the dev NLLs."""
        overrides = [
            *self.overrides, "logger=none", f"hydra.run.dir={self.folder / name}",
            f"trainer.precision={precision}", f"trainer.max_steps={steps}",
            f"trainer.log_every={log_every}", f"trainer.eval_every={steps}",
            "trainer.test_beam=1",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "train.py", *overrides], capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(f"train.py ended with {done.returncode}:\n{done.stderr[-2000:]}")
        lines = (self.folder / name / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
        metrics = [json.loads(line) for line in lines if line]
        speeds = [m["train/tokens_per_second"] for m in metrics if "train/loss" in m]
        return speeds, [m["dev/nll"] for m in metrics if "dev/nll" in m]


def training_times(
    joey: JoeyNMT, ours: Normlab, rounds: int, steps: int = 120, log_every: int = 30
) -> dict[str, list[float]]:
    """Returns seconds per 1,000 target tokens of each system, one value a round.

    A round starts each system once, in random order; the first log interval is warm-up.
    """
    times: dict[str, list[float]] = {name: [] for name in (BASELINE, *OURS)}
    order = list(times)
    shuffle = random.Random(0).shuffle
    for number in range(rounds):
        shuffle(order)
        for name in order:
            if name == BASELINE:
                speeds, _ = joey.train("speed", steps, log_every, dev="head")
            else:
                speeds, _ = ours.train(f"{OURS[name]}_{number}", OURS[name], steps, log_every)
            times[name].append(1000 / median(speeds[1:]))
    return times
