"""The types of the config: what a value may be. The values themselves live in conf/.

`check` merges a composed config into these types, which rejects a misspelt key and a wrong type,
then tests the ranges. Imports neither torch nor anything heavy: a config error is answered at once.
`norm` is an open mapping, so that a new norm needs a class and a YAML file and nothing here; its
class checks its arguments.
"""

from dataclasses import dataclass
from typing import Any, cast

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from normlab.errors import UserError


@dataclass
class Names:
    """Which option of each group was chosen, and what the run is called."""

    norm: str = MISSING
    init: str = MISSING
    model: str = MISSING
    data: str = MISSING
    run: str = MISSING


@dataclass
class Init:
    scheme: str = MISSING
    scale: float = MISSING
    mean: float = MISSING
    apply_to: list[str] = MISSING


@dataclass
class Transformer:
    _target_: str = MISSING
    d_model: int = MISSING
    d_ff: int = MISSING
    heads: int = MISSING
    encoder_layers: int = MISSING
    decoder_layers: int = MISSING
    dropout: float = MISSING
    attention_dropout: float = MISSING
    norm_placement: str = MISSING
    share_embeddings: bool = MISSING
    max_positions: int = MISSING


@dataclass
class RNNSearch:
    _target_: str = MISSING
    d_embedding: int = MISSING
    d_hidden: int = MISSING
    dropout: float = MISSING
    share_embeddings: bool = MISSING
    max_length: int = MISSING


@dataclass
class Data:
    """What every corpus has."""

    _target_: str = MISSING
    src: str = MISSING
    tgt: str = MISSING
    vocab_size: int = MISSING
    max_len: int = MISSING
    pool: int = MISSING
    cache_dir: str = MISSING


@dataclass
class Grammar(Data):
    seed: int = MISSING
    train: int = MISSING
    dev: int = MISSING
    test: int = MISSING


@dataclass
class Text(Data):
    dir: str = MISSING
    train: str = MISSING
    dev: str = MISSING
    test: list[str] = MISSING


@dataclass
class Hub(Data):
    path: str = MISSING
    config: str | None = MISSING
    revision: str = MISSING
    train: str = MISSING
    dev: str = MISSING
    test: list[str] = MISSING
    format: str = MISSING


@dataclass
class Optimizer:
    name: str = MISSING
    betas: tuple[float, float] = MISSING
    eps: float = MISSING
    weight_decay: float = MISSING


@dataclass
class Schedule:
    name: str = MISSING
    lr: float = MISSING
    warmup: int = MISSING


@dataclass
class Trainer:
    max_steps: int | None = MISSING
    max_epochs: int | None = MISSING
    max_minutes: float | None = MISSING
    batch_tokens: int = MISSING
    accumulate: int = MISSING
    label_smoothing: float = MISSING
    clip: float | None = MISSING
    log_every: int = MISSING
    eval_every: int = MISSING
    eval_beam: int = MISSING
    hidden_stats: bool = MISSING
    patience: int | None = MISSING
    checkpoint_every: int = MISSING
    keep: int = MISSING
    average: int = MISSING
    test_beam: int = MISSING
    length_penalty: float = MISSING
    precision: str = MISSING
    compile: bool = MISSING
    device: str = MISSING
    threads: int | None = MISSING
    deterministic: bool = MISSING


@dataclass
class Logger:
    name: str = MISSING
    project: str = MISSING
    group: str = MISSING
    tags: list[str] = MISSING


@dataclass
class Config:
    names: Names = MISSING
    seed: int = MISSING
    norm: dict[str, Any] = MISSING
    init: Init = MISSING
    model: Any = MISSING
    data: Any = MISSING
    optimizer: Optimizer = MISSING
    schedule: Schedule = MISSING
    trainer: Trainer = MISSING
    logger: Logger = MISSING


# The groups whose options build different things, by `_target_`.
VARIANTS: dict[str, type] = {
    "normlab.models.transformer.Transformer": Transformer,
    "normlab.models.rnnsearch.RNNSearch": RNNSearch,
    "normlab.data.corpora.grammar": Grammar,
    "normlab.data.corpora.text": Text,
    "normlab.data.corpora.hub": Hub,
}

# key: (lowest allowed value, whether it is itself allowed)
_BOUNDS = {
    "seed": (0, True),
    "init.scale": (0, False),
    "model.d_model": (1, True),
    "model.d_ff": (1, True),
    "model.heads": (1, True),
    "model.encoder_layers": (1, True),
    "model.decoder_layers": (1, True),
    "model.dropout": (0, True),
    "model.attention_dropout": (0, True),
    "model.max_positions": (1, True),
    "model.d_embedding": (1, True),
    "model.d_hidden": (1, True),
    "model.max_length": (1, True),
    "data.vocab_size": (1, True),
    "data.max_len": (2, True),
    "data.pool": (1, True),
    "optimizer.eps": (0, True),
    "optimizer.weight_decay": (0, True),
    "schedule.lr": (0, False),
    "schedule.warmup": (0, True),
    "trainer.max_steps": (1, True),
    "trainer.max_epochs": (1, True),
    "trainer.max_minutes": (0, False),
    "trainer.batch_tokens": (1, True),
    "trainer.accumulate": (1, True),
    "trainer.label_smoothing": (0, True),
    "trainer.clip": (0, False),
    "trainer.log_every": (1, True),
    "trainer.eval_every": (1, True),
    "trainer.eval_beam": (1, True),
    "trainer.patience": (1, True),
    "trainer.checkpoint_every": (1, True),
    "trainer.keep": (1, True),
    "trainer.average": (0, True),
    "trainer.test_beam": (1, True),
    "trainer.length_penalty": (0, True),
    "trainer.threads": (1, True),
}
_BELOW_ONE = ("model.dropout", "model.attention_dropout", "trainer.label_smoothing")
_CHOICES = {
    "init.scheme": ("xavier_uniform", "uniform", "normal", "nematus"),
    "optimizer.name": ("adam", "adamw"),
    "schedule.name": ("inverse_sqrt", "constant"),
    "trainer.precision": ("fp32", "bf16"),
    "trainer.device": ("auto", "cpu", "cuda"),
    "logger.name": ("wandb", "none"),
}


def check(cfg: DictConfig) -> Config:
    """Returns the composed config as typed objects; `norm`, a plain dict.

    Raises UserError naming the first key that is unknown, missing, of a wrong type or out of range.
    """
    typed = OmegaConf.structured(Config)
    try:
        for group in ("model", "data"):
            target = OmegaConf.select(cfg, f"{group}._target_")
            if target not in VARIANTS:
                raise UserError(f"{group}._target_={target} is none of {', '.join(VARIANTS)}.")
            typed[group] = OmegaConf.structured(VARIANTS[target])
        typed = OmegaConf.merge(typed, cfg)
        OmegaConf.resolve(typed)
        missing = OmegaConf.missing_keys(typed)
    except OmegaConfBaseException as error:
        raise UserError(_one_sentence(error)) from error
    if missing:
        keys = ", ".join(sorted(missing))
        raise UserError(f"no value for {keys}: give one, as in `{sorted(missing)[0]}=...`.")
    for key, (low, inclusive) in _BOUNDS.items():
        value = OmegaConf.select(typed, key)
        if value is not None and not (value >= low if inclusive else value > low):
            raise UserError(f"{key} must be {'>=' if inclusive else '>'} {low}, got {value}.")
    for key in _BELOW_ONE:
        if (OmegaConf.select(typed, key) or 0) >= 1:
            raise UserError(f"{key} must be below 1, got {OmegaConf.select(typed, key)}.")
    for key, choices in _CHOICES.items():
        value = OmegaConf.select(typed, key)
        if value not in choices:
            raise UserError(f"{key}={value} is unknown: use {' or '.join(choices)}.")
    limits = (typed.trainer.max_steps, typed.trainer.max_epochs, typed.trainer.max_minutes)
    if limits == (None, None, None):
        raise UserError(
            "training would never end: set trainer.max_steps, trainer.max_epochs or "
            "trainer.max_minutes."
        )
    if typed.schedule.name == "inverse_sqrt" and typed.schedule.warmup < 1:
        raise UserError("schedule=inverse_sqrt needs schedule.warmup >= 1.")
    if typed.trainer.average > typed.trainer.keep:
        raise UserError(
            f"trainer.average={typed.trainer.average} needs as many checkpoints kept, "
            f"but trainer.keep={typed.trainer.keep}."
        )
    return cast(Config, OmegaConf.to_object(typed))


def _one_sentence(error: OmegaConfBaseException) -> str:
    key = getattr(error, "full_key", None)
    text = str(error).split("\n")[0]
    return f"config key {key}: {text}" if key else text
