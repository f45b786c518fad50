"""A run read back from its directory."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from normlab.errors import UserError
from normlab.files import hash_text
from normlab.runs import components
from normlab.runs.assemble import Parts, assemble
from normlab.runs.config import Config, parse_config
from normlab.runs.directory import RunDirectory
from normlab.runs.environment import device_of, prepare
from normlab.runs.identity import owner

if TYPE_CHECKING:
    import torch
    from torch import nn

    from normlab.tasks.translation.translator import Translator


@dataclass
class LoadedRun:
    """A run's model in evaluation mode, its config and its directory."""

    directory: RunDirectory
    config: Config
    model: "nn.Module"
    device: "torch.device"
    trusted: Collection[str]
    checkpoint: str  # whose weights these are

    def with_data(self) -> Parts:
        """Returns all parts of the run with these weights; raises UserError for other data."""
        parts = assemble(self.config, self.directory, self.trusted, device=self.device.type)
        parts.model.load_state_dict(self.model.state_dict())
        parts.model.eval()
        return parts


def load_run(
    run_dir: Path | str,
    checkpoint: str = "",
    device: str = "auto",
    trusted: Collection[str] = (),
) -> LoadedRun:
    """Returns the run in `run_dir` with the weights of `checkpoints/<checkpoint>.pt`.

    "" are those that it was tested with: the best, or the average where it asked for that.
    The stored config is data: only normlab's own kinds are built from it, and those whose import
    paths are in `trusted`. Raises UserError when the directory holds no run, when its files are
    missing, damaged or of another run, and for kinds that are not trusted.
    """
    from normlab import norms
    from normlab.training.checkpoint import Checkpoints

    prepare()
    directory = RunDirectory(Path(run_dir))
    plain, data = directory.stored_config(), directory.stored_data()
    if plain is None:
        raise UserError(f"{run_dir} is no run directory: {directory.config} does not exist.")
    if data is None:
        raise UserError(f"{directory.data} is missing or damaged: the run has not begun to train.")
    config = parse_config(OmegaConf.create(plain))
    where = device_of(device)
    summary = directory.stored_summary()
    lost = summary is None and bool(config.trainer.average)  # a damaged summary, which says nothing
    checkpoint = checkpoint or (summary or {}).get("weights", "average" if lost else "best")
    model = components.build_model(config, data["model_arguments"], trusted)
    norms.reparameterise(model)
    owned = owner(config.plain(), data["contents"])
    weights = Checkpoints(directory.checkpoints, owner=owned).read(checkpoint)["model"]
    model.load_state_dict(weights)
    return LoadedRun(directory, config, model.to(where).eval(), where, trusted, checkpoint)


def load_translator(
    run_dir: Path | str,
    checkpoint: str = "",
    device: str = "auto",
    trusted: Collection[str] = (),
) -> "Translator":
    """Returns what translates as the test of the run in `run_dir` did; see `load_run`."""
    from normlab.models.seq2seq import Seq2Seq
    from normlab.tasks.translation.tokenizer import load_tokenizer
    from normlab.tasks.translation.translator import Translator

    run = load_run(run_dir, checkpoint, device, trusted)
    if not isinstance(run.model, Seq2Seq):
        raise UserError(f"{run_dir} holds no translation model: task={run.config.names.task}.")
    path = run.directory.path / "tokenizer.json"
    tokenizer = load_tokenizer(path)
    data = run.directory.stored_data() or {}
    if hash_text(tokenizer.to_str()) != data["contents"]["subwords"]:
        raise UserError(f"{path} holds other subwords than the run was trained with: restore it.")
    return Translator(
        run.model,
        tokenizer,
        run.device,
        max_length=run.config.data["eval_max_length"],
        batch_tokens=run.config.data["batch_tokens"],
        beam=run.config.decoding["beam"],
        length_penalty=run.config.decoding["length_penalty"],
        precision=run.config.trainer.precision,
    )
