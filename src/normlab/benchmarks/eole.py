"""eole 0.6 (the OpenNMT line) with the model, optimiser and data of a normlab config (peers.py).

Its environment: `pip install eole aiohttp`.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from normlab.benchmarks.peers import Files, check_installed, run
from normlab.errors import UserError
from normlab.runs.config import Config
from normlab.tasks.translation.encoding import EncodedCorpus

SPEED = re.compile(r"\d+/\s*(\d+) tok/s")  # source/target
PERPLEXITY = re.compile(r"Validation perplexity: ([\d.e+]+|nan|inf)")
# the first step's, with the encoder, and that of all others
SECONDS = re.compile(r"(?:Step 0 time|time including all) \(s\): ([\d.]+)")
MAX_LENGTH = 100  # tokens of a translation
DECODE = """
import json, sys, time
import ctranslate2
options = json.loads(sys.argv[1])
lines = open(options["src"], encoding="utf-8").read().split("\\n")[:-1]
model = ctranslate2.Translator(options["model"], inter_threads=1, intra_threads=options["threads"])
started = time.perf_counter()
found = model.translate_batch(
    [line.split() for line in lines], beam_size=options["beam"], batch_type="tokens",
    max_batch_size=options["batch"], max_decoding_length=options["max_length"],
    length_penalty=options["alpha"],
)
seconds = time.perf_counter() - started
texts = [" ".join(each.hypotheses[0]) for each in found]
json.dump({"seconds": seconds, "lines": texts}, open(options["output"], "w"))
"""


class Eole:
    """eole as peers.Peer; `python` is the interpreter of its environment."""

    name = "eole"
    version = "0.6"
    precisions: Sequence[str] = ("fp32", "bf16")
    dev_metric = "dev/loss"  # it smooths labels in validation too
    differs = (
        "embeddings, tied to the softmax, start with a fifth of our deviation; CTranslate2 divides "
        f"scores by another power of the length; at most {MAX_LENGTH} tokens a sentence."
    )

    def __init__(self, python: Path, folder: Path, config: Config, encoded: EncodedCorpus):
        check_installed(python, "eole.bin.main")
        if config.names.norm != "layernorm":
            raise UserError(
                f"norm={config.names.norm}: eole is compared with norm=layernorm; version 0.6.4 "
                "leaves the gain of its RMSNorm uninitialised, and has no other norm."
            )
        if config.model["norm_placement"] != "pre":
            raise UserError("eole's decoder is pre-norm: model.norm_placement=pre.")
        self.python, self.folder, self.config = python, folder, config
        self.files = Files(folder, encoded)

    def train(
        self, name: str, precision: str, steps: int, log_every: int, dev: str = "dev"
    ) -> tuple[list[float], list[float]]:
        """Trains; see peers.Peer."""
        config = {
            "seed": self.config.seed,
            "share_vocab": True,
            "src_vocab": str(self.folder / "vocab.txt"),
            "src_vocab_size": 1_000_000,
            "save_data": str(self.folder / "data"),
            "overwrite": True,
            "n_sample": 0,
            "report_every": log_every,
            "data": {"train": self._corpus("train"), "valid": self._corpus(dev)},
            "model": self._model(),
            "training": {**self._training(precision, steps), "model_path": str(self.folder / name)},
        }
        path = self.folder / f"{name}.yaml"
        log = self._run("train", path, config)
        losses = [math.log(float(found)) for found in PERPLEXITY.findall(log)]
        if not all(map(math.isfinite, losses)):
            raise UserError(f"{path}: eole's loss is not finite.")
        return [float(speed) for speed in SPEED.findall(log)], losses

    def translate(self, name: str, beam: int) -> dict[str, tuple[float, list[str]]]:
        """Translates the test set by eole and by CTranslate2; see peers.Peer."""
        output = self.folder / f"{name}.output"
        config = {
            "model_path": [str(self.folder / name)],
            "src": str(self.folder / "test.src"),
            "output": str(output),
            "beam_size": beam,
            "batch_type": "tokens",
            "batch_size": self.config.data["batch_tokens"],
            "max_length": MAX_LENGTH,
            "length_penalty": "wu",  # Wu et al. 2016, as ours
            "alpha": self.config.decoding["length_penalty"],
            "report_time": True,
        }
        log = self._run("predict", self.folder / f"{name}.predict.yaml", config)
        if len(parts := SECONDS.findall(log)) != 2:
            raise UserError(f"{output}: eole has not printed its seconds as version 0.6.4 does.")
        seconds = sum(map(float, parts))
        lines = output.read_text(encoding="utf-8").split("\n")[:-1]
        found = {"eole": (seconds, self.files.texts(lines))}
        return {**found, "eole's model, CTranslate2": self._ctranslate2(name, beam)}

    def _ctranslate2(self, name: str, beam: int) -> tuple[float, list[str]]:
        model, output = self.folder / f"{name}_ct2", self.folder / f"{name}_ct2.json"
        source, target = ("--model_path", self.folder / name), ("--output_dir", model)
        run([self.python, "-m", "ctranslate2.converters.eole_ct2", "--force", *source, *target])
        options = {
            "src": str(self.folder / "test.src"),
            "model": str(model),
            "output": str(output),
            "beam": beam,
            "batch": self.config.data["batch_tokens"],
            "max_length": MAX_LENGTH,
            "alpha": self.config.decoding["length_penalty"],
            "threads": torch.get_num_threads(),
        }
        run([self.python, "-c", DECODE, json.dumps(options)])
        found = json.loads(output.read_text(encoding="utf-8"))
        return found["seconds"], self.files.texts(found["lines"])

    def _run(self, command: str, path: Path, config: dict[str, Any]) -> str:
        """Returns all that eole's `command` prints, with `config` written to `path`."""
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        main = "from eole.bin.main import main; main()"
        return run([self.python, "-c", main, command, "-config", path])

    def _corpus(self, name: str) -> dict[str, Any]:
        paths = {f"path_{side}": str(self.folder / f"{name}.{side}") for side in ("src", "tgt")}
        return {**paths, "transforms": []}

    def _model(self) -> dict[str, Any]:
        model = self.config.model
        if model["encoder_layers"] != model["decoder_layers"]:
            raise UserError("eole: model.encoder_layers and model.decoder_layers must be equal.")
        return {
            "architecture": "transformer",
            "hidden_size": model["d_model"],
            "transformer_ff": model["d_ff"],
            "heads": model["heads"],
            "layers": model["encoder_layers"],
            "share_embeddings": True,
            "share_decoder_embeddings": True,
            "add_qkvbias": True,
            "add_ffnbias": True,
            # else the encoder has none in training, and an uninitialised one when it is converted
            "add_final_linear_bias": True,
            "layer_norm": "standard",
            "embeddings": {
                "word_vec_size": model["d_model"],
                "position_encoding_type": "SinusoidalInterleaved",
            },
        }

    def _training(self, precision: str, steps: int) -> dict[str, Any]:
        config, width = self.config, self.config.model["d_model"]
        warmup = config.schedule["warmup"]
        return {
            "compute_dtype": precision,
            "use_amp": precision == "bf16",
            "batch_type": "tokens",
            "batch_size": config.data["batch_tokens"],
            "valid_batch_size": config.data["batch_tokens"],
            "normalization": "tokens",
            "num_workers": 0,
            "optim": "adam",
            "adam_beta2": 0.98,
            "adam_eps": 1e-9,
            # noam: learning_rate / sqrt(width) * min(1 / sqrt(step), step / warmup^1.5), whose
            # peak, at the end of the warm-up, is our lr
            "decay_method": "noam",
            "learning_rate": config.schedule["lr"] * math.sqrt(width * warmup),
            "warmup_steps": warmup,
            "max_grad_norm": config.trainer.clip,
            "label_smoothing": config.task["label_smoothing"],
            "dropout": [config.model["dropout"]],
            "attention_dropout": [config.model["attention_dropout"]],
            "param_init_method": "xavier_uniform",
            "train_steps": steps,
            "valid_steps": steps,
            "save_checkpoint_steps": steps,
            "keep_checkpoint": 1,
        }
