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
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from normlab.errors import UserError
from normlab.runs import components
from normlab.runs.config import Config, check
from normlab.runs.loaded import load_translator
from normlab.runs.sweeps import compose_job
from normlab.tasks.translation.batching import EncodedBitext
from normlab.tasks.translation.encoding import EncodedCorpus
from normlab.tasks.translation.scoring import score
from normlab.tasks.translation.task import Translation
from normlab.tasks.translation.tokenizer import decode

BASELINE = "JoeyNMT, fp32"
OURS = {"normlab, fp32": "fp32", "normlab, bf16": "bf16"}  # JoeyNMT has no bf16 on a CPU

SPEED = re.compile(r"Tokens per Sec:\s+(\d+)")
DEV_LOSS = re.compile(r"Evaluation result.*loss:\s+([\d.]+).*ppl:\s+([\d.]+)")
SECONDS = re.compile(r"Generation took ([\d.]+)\[sec\]")


class JoeyNMT:
    """JoeyNMT 2.3 with the Transformer, optimiser and data of a normlab config.

    `python` is the interpreter of its environment; everything it writes lies in `folder`.
    """

    def __init__(self, python: Path, folder: Path, config: Config, encoded: EncodedCorpus):
        found = subprocess.run([python, "-c", "import joeynmt"], capture_output=True, text=True)
        if found.returncode:
            reason = found.stderr.strip().split("\n")[-1]
            raise UserError(f"{python} has no JoeyNMT ({reason}): pip install joeynmt there.")
        self.python, self.folder = python, folder
        self.config, self.tokenizer = config, encoded.tokenizer
        folder.mkdir(parents=True, exist_ok=True)
        write_ids(encoded.train, folder / "train")
        write_ids(encoded.dev, folder / "dev")
        first = next(iter(encoded.test.values()))
        write_ids(first, folder / "test")
        write_ids(head(encoded.dev, 8), folder / "head")
        words = map(str, range(encoded.tokenizer.get_vocab_size()))
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
        config = self.config
        return {
            "batch_size": config.data["batch_tokens"],
            "batch_type": "token",
            "normalization": "tokens",
            "label_smoothing": config.task["label_smoothing"],
            "clip_grad_norm": config.trainer.clip,
            "optimizer": "adam",
            "adam_betas": [0.9, 0.98],
            "learning_rate": config.schedule["lr"],
            "learning_rate_min": 0.0,
            "learning_rate_warmup": config.schedule["warmup"],
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
            "type": "transformer",
            "hidden_size": model["d_model"],
            "ff_size": model["d_ff"],
            "num_heads": model["heads"],
            "dropout": model["dropout"],
            "layer_norm": model["norm_placement"],
            "embeddings": {
                "embedding_dim": model["d_model"],
                "scale": True,
                "dropout": model["dropout"],
            },
        }
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
                "beam_alpha": self.config.decoding["length_penalty"],
                "batch_size": self.config.data["batch_tokens"],
                "batch_type": "token",
                "max_output_length": 100,
            },
            "model": {
                "initializer": "xavier_uniform",
                "embed_initializer": "normal",
                "embed_init_weight": model["d_model"] ** -0.5,
                "tied_embeddings": True,
                "tied_softmax": True,
                "encoder": {**sizes, "num_layers": model["encoder_layers"]},
                "decoder": {**sizes, "num_layers": model["decoder_layers"]},
            },
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(joey), encoding="utf-8")
        done = subprocess.run(
            [self.python, "-m", "joeynmt", mode, path, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "TQDM_DISABLE": "1"},
        )
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
            *self.overrides,
            "logger=none",
            f"hydra.run.dir={self.folder / name}",
            f"trainer.precision={precision}",
            f"trainer.max_steps={steps}",
            f"trainer.log_every={log_every}",
            f"trainer.eval_every={steps}",
            "decoding.beam=1",
        ]
        done = subprocess.run(
            [sys.executable, "train.py", *overrides], capture_output=True, text=True
        )
        if done.returncode:
            raise UserError(f"train.py ended with {done.returncode}:\n{done.stderr[-2000:]}")
        lines = (self.folder / name / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
        metrics = [json.loads(line) for line in lines if line]
        speeds = [m["train/items_per_second"] for m in metrics if "train/loss" in m]
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


def benchmark(
    python: Path,
    folder: Path,
    conf: Path,
    overrides: list[str],
    rounds: int,
    steps: int,
    device: str,
) -> dict[str, Any]:
    """Returns the records of training and decoding of both, and their losses and BLEU."""
    config = check(compose_job(conf, overrides))
    task = components.build_task(config)
    if not isinstance(task, Translation):
        raise UserError("JoeyNMT translates: leave task=translation.")
    corpus, encoded = task.corpus, task.encoded
    joey = JoeyNMT(python.absolute(), folder / "joeynmt", config, encoded)
    ours = Normlab(folder, overrides)
    work = {"count": 1000, "of": "target tokens"}
    times = training_times(joey, ours, rounds)
    title = "training, per 1,000 target tokens"
    records = [{"title": title, "baseline": BASELINE, "work": work, "times": times}]

    losses = {BASELINE: joey.train("trained", steps, 50)[1][-1]}
    for name, precision in OURS.items():
        losses[name] = ours.train(f"{precision}_trained", precision, steps, 50)[1][-1]
    (test_name, test), *_ = corpus.test.items()
    translator = load_translator(folder / "fp32_trained", device=device)
    times = {BASELINE: [], "normlab, fp32": []}
    bleu = {}
    for _ in range(rounds):
        seconds, outputs = joey.translate("trained", beam=5)
        times[BASELINE].append(seconds)
        bleu[BASELINE] = score(outputs, test.tgt)["bleu"]
        started = time.perf_counter()
        outputs, _ = translator(list(test.src), beam=5)
        times["normlab, fp32"].append(time.perf_counter() - started)
        bleu["normlab, fp32"] = score(outputs, test.tgt)["bleu"]
    work = {"count": len(test.src), "of": "sentences"}
    title = f"beam 5, {test_name}"
    records.append({"title": title, "baseline": BASELINE, "work": work, "times": times})
    method = [
        "Every variant a process of its own, started once per round in random order; the steps",
        "up to the first log line left out; ratios within a round, 95 % bootstrap interval.",
    ]
    notes = [
        "The same Transformer, optimiser, batch limit and subwords. Dev NLL per token after",
        f"{steps} steps: {', '.join(f'{name} {loss:.2f}' for name, loss in losses.items())};",
        f"BLEU of {test_name}: {', '.join(f'{name} {found:.1f}' for name, found in bleu.items())}.",
    ]
    return {
        "name": "joeynmt",
        "title": "normlab and JoeyNMT 2.3",
        "records": records,
        "notes": notes,
        "method": method,
    }
