"""JoeyNMT 2.3 with the Transformer, optimiser and data of a normlab config (peers.py).

Its environment: `pip install joeynmt importlib_metadata`.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from normlab.benchmarks.peers import SOURCES, Files, check_installed, run
from normlab.errors import UserError
from normlab.runs.config import Config
from normlab.tasks.translation.encoding import EncodedCorpus

SPEED = re.compile(r"Tokens per Sec:\s+(\d+)")
DEV_LOSS = re.compile(r"Evaluation result.*loss:\s+([\d.]+).*ppl:\s+([\d.]+)")
SECONDS = re.compile(r"Generation took ([\d.]+)\[sec\]")


def smoothed_entropy(smoothing: float, words: int) -> float:
    """Returns the entropy, in nats, of JoeyNMT's smoothed label among `words` with its specials.

    The label has 1 - smoothing, padding nothing, and every other word an equal share of the rest.
    """
    if not smoothing:
        return 0.0
    share = smoothing / (words - 2)
    return -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(share)


class JoeyNMT:
    """JoeyNMT as peers.Peer; `python` is the interpreter of its environment."""

    name = "JoeyNMT"
    version = "2.3"
    precisions: Sequence[str] = ("fp32",)
    dev_metric = "dev/loss"
    differs = (
        "attention weights have dropout too; a batch is not of sentences of like length and holds "
        "about half as many target tokens; the first step is at the peak learning rate; at most "
        "100 tokens a sentence."
    )

    def __init__(self, python: Path, folder: Path, config: Config, encoded: EncodedCorpus):
        check_installed(python, "joeynmt")
        if config.names.norm != "layernorm":
            raise UserError(
                f"JoeyNMT knows LayerNorm only: norm=layernorm, not {config.names.norm}."
            )
        self.python, self.folder, self.config = python, folder, config
        self.files = Files(folder, encoded)

    def train(
        self, name: str, precision: str, steps: int, log_every: int, dev: str = "dev"
    ) -> tuple[list[float], list[float]]:
        """Trains; see peers.Peer. There is no precision but fp32 on a CPU."""
        assert precision == "fp32"
        settings = {
            "updates": steps,
            "validation_freq": steps,
            "logging_freq": log_every,
            **self._training(),
        }
        options = {"dev": dev, "training": settings}
        log = self._run(["joeynmt", "train"], name, options, "--skip-test")
        # It logs the divergence from the smoothed labels: with their entropy it is our loss.
        entropy = smoothed_entropy(self.config.task["label_smoothing"], self.files.words + 4)
        losses = [float(loss) + entropy for loss, _ in DEV_LOSS.findall(log)]
        return [float(speed) for speed in SPEED.findall(log)], losses

    def translate(self, name: str, beam: int) -> dict[str, tuple[float, list[str]]]:
        """Translates the test set; see peers.Peer. Beams also by normlab's search."""
        found = {self.name: self._translate(["joeynmt", "test"], name, beam)}
        if beam > 1:
            ours = ["normlab.benchmarks.joeynmt_search"]
            found["JoeyNMT's model, normlab's search"] = self._translate(ours, name, beam)
        return found

    def _translate(self, command: list[str], name: str, beam: int) -> tuple[float, list[str]]:
        output = self.folder / name / "output"
        log = self._run(command, name, {"beam": beam}, "--output-path", str(output))
        lines = Path(f"{output}.test").read_text(encoding="utf-8").split("\n")[:-1]
        return float(SECONDS.findall(log)[-1]), self.files.texts(lines)

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

    def _run(self, command: list[str], name: str, options: dict[str, Any], *arguments: str) -> str:
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
        whole = [str(self.python), "-m", *command, str(path), *arguments]
        return run(whole, TQDM_DISABLE="1", PYTHONPATH=str(SOURCES))
