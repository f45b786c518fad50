"""From a checked config to the things it describes: model, data, optimiser, device."""

import inspect
import logging
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate

from normlab import schema
from normlab.errors import UserError

if TYPE_CHECKING:
    import torch

    from normlab.data.corpora import Corpus
    from normlab.data.prepare import Prepared
    from normlab.models.protocol import Seq2Seq

log = logging.getLogger(__name__)


def build_model(config: schema.Config, vocab: int) -> "Seq2Seq":
    """Returns the model of `config` with the norm of `config`, not yet initialised."""
    arguments = {key: value for key, value in config.norm.items() if key != "_target_"}
    kind = get_class(config.norm["_target_"])
    # all but dim and the keyword-only axes, which the model gives
    parameters = inspect.signature(kind).parameters.values()
    known = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
    if unknown := arguments.keys() - set(known):
        raise UserError(
            f"norm.{min(unknown)} is no argument of norm={config.names.norm}: "
            f"it has {', '.join(known) or 'none'}."
        )
    norm = partial(kind, **arguments)
    return _build(asdict(config.model), vocab=vocab, norm=norm)


def reparameterise(model: "Seq2Seq") -> None:
    """Re-parameterises the weights of `model` in place if its norm asks for it (weightnorm).

    Comes after initialisation, which acts on the weights themselves, and before a checkpoint is
    loaded, which holds what they were re-parameterised to.
    """
    from normlab import norms

    norms.reparameterise(model)


def load_data(config: schema.Config) -> "tuple[Corpus, Prepared]":
    """Returns the corpus as text and as ids."""
    from normlab.data.prepare import prepare

    data = asdict(config.data)
    del data["pool"]
    sizes = {key: data.pop(key) for key in ("vocab_size", "max_len", "cache_dir")}
    corpus = _build(data)
    return corpus, prepare(corpus, **sizes)


def implementation(model: "Seq2Seq", device: "torch.device") -> str:
    """Returns how the model is computed on `device`, as in "composed" or "none+fused-gru"."""
    from normlab import norms

    return norms.implementation(model, device)


def initialize_model(model: "Seq2Seq", config: schema.Config) -> None:
    """Initialises `model` in place as `config` says, then re-parameterises it if its norm asks."""
    from normlab.models.initialization import initialize

    shifted = initialize(model, **asdict(config.init))
    if config.init.mean:
        log.info("Initial mean %g in %d weight matrices.", config.init.mean, len(shifted))
    reparameterise(model)


def build_optimizer(model: "Seq2Seq", config: schema.Config) -> "torch.optim.Optimizer":
    """Returns the optimiser of `config` over all parameters of `model`."""
    import torch

    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    o = config.optimizer
    # fused: one kernel for all parameters, on CPU too
    return kinds[o.name](
        model.parameters(), lr=config.schedule.lr, betas=tuple(o.betas), eps=o.eps,
        weight_decay=o.weight_decay, fused=True,
    )  # fmt: skip


def device_of(name: str) -> "torch.device":
    """Returns the device that `auto`, `cpu` or `cuda` means; raises UserError without a GPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer.device=cuda, but torch sees no GPU: use trainer.device=cpu.")
    return torch.device(name)


def device_name(device: "torch.device") -> str:
    """Returns the device as a reader would name it: the GPU's model, or the CPU and its threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"


def autocast(settings: schema.Trainer, device: "torch.device") -> "torch.autocast":
    """Returns the context in which the model runs at `settings.precision`."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bf16")


def _build(node: dict[str, Any], **arguments: Any) -> Any:
    """Returns what `node` describes; the mistake of a user inside it comes out as it is."""
    try:
        return instantiate(node, **arguments, _convert_="all")
    except InstantiationException as error:
        if isinstance(error.__cause__, UserError):
            raise error.__cause__ from None
        raise
