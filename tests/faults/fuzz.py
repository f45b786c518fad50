"""Every key of the config with every kind of nonsense: two steps of training, or one sentence."""

import json
import logging
import math
import random
import resource
import shutil
import time
from collections.abc import Iterator
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from tiny import TINY, TINY_RNN

from faults.children import ROOT, Child, say
from faults.outcomes import CLEAR, LOST, SURVIVED, WRONG, Outcome, fault
from normlab.errors import UserError
from normlab.files import flatten
from normlab.runs.sweeps import compose_job

VALUES = (
    "abc", "", [], [1], {"a": 1}, None, True, 1.5, 0, -1, 10**12, 2**70, 1e-300, 1e300,
    math.nan, math.inf, -math.inf,
)  # fmt: skip
SHORT = ("data.train=60", "data.dev=4", "data.test=4", "data.vocab_size=264", "trainer.max_steps=2")
SMALL = ("logger=none", "data.train=40", "data.dev=10", "data.test=10", "data.batch_size=10")
NARROW = ("model.d_embedding=8", "model.d_hidden=8")
BASES = {  # every option that has keys of its own
    "": TINY,
    "prmsnorm": (*TINY, "norm=prmsnorm", "norm.p=0.5", "optimizer=adamw", "schedule=constant"),
    "rnnsearch": (*TINY_RNN, "norm=rmsnorm", "init=nematus"),
    "text": (*(o for o in TINY if not o.startswith("data.")), "data=text", "data.vocab_size=264"),
    "cifar10": ("task=cifar10", *SMALL, "model.width=2", "schedule.start=1", "norm=batchnorm"),
    "groupnorm": (*TINY, "norm=groupnorm", "norm.groups=2", "norm@model.decoder_norm=layernorm"),
    "retrieval": ("task=retrieval", *SMALL, *NARROW, "norm=l2norm"),
    "reader": ("task=reader", *SMALL, *NARROW, "norm=dyt"),
    "wandb": (*(o for o in TINY if o != "logger=none"), "logger=wandb"),
}
FLOAT32 = 3e38  # what a weight can hold
SECONDS = 240.0  # for a case on a busy machine; whitening images takes 15 by itself
MEMORY = 8 << 30  # of address space, so that a case that asks for all ends alone


def cases(folder: Path) -> list[tuple[str, str, Any]]:
    """Returns (base, key, value) for every key of every base; what bases share is done once."""
    found: list[tuple[str, str, Any]] = []
    seen: set[tuple[str, Any]] = set()
    for base in BASES:
        config = plain(base, folder)
        for key in flatten(config):
            group = config[key.split(".")[0]]
            of = group.get("_target_", group.get("name")) if isinstance(group, dict) else None
            if (key, of) not in seen and not key.endswith("cache_dir"):
                # Compiling takes a minute, and is tested elsewhere.
                values = [v for v in VALUES if (key, v) != ("trainer.compile", True)]
                found += [(base, key, value) for value in values]
            seen.add((key, of))
    return found


@cache
def compose(base: str, folder: Path) -> DictConfig:
    """Returns the composed config of a base, to be copied."""
    overrides = [*BASES[base], "trainer.max_steps=2"]
    if base not in ("retrieval", "reader"):
        overrides.append(f"data.cache_dir={folder / 'cache'}")
    if base == "text":
        overrides += [f"data.dir={corpus(folder)}", "data.dev=dev", "data.test=[dev]"]
        overrides += ["data.batch_tokens=256"]
    elif base not in ("cifar10", "retrieval", "reader"):
        overrides += SHORT
    return compose_job(ROOT / "conf", overrides)


def plain(base: str, folder: Path) -> dict[str, Any]:
    """Returns the same as dicts."""
    return OmegaConf.to_container(compose(base, folder))  # type: ignore[return-value]


def corpus(folder: Path) -> Path:
    """Returns a folder of small text files."""
    texts = folder / "texts"
    if not texts.exists():
        texts.mkdir(parents=True)
        for name, lines in (("train", 60), ("dev", 4)):
            for language in ("en", "de"):
                made = "".join(f"the {language} line {i % 7} of {i % 5}\n" for i in range(lines))
                (texts / f"{name}.{language}").write_text(made, encoding="utf-8")
    return texts


def attempt(folder: Path, tries: list[tuple[str, str, Any]]) -> None:
    """Runs the cases one after the other, in a child; says which outcome each had."""
    from normlab.runs.job import run

    logging.disable(logging.CRITICAL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for base, key, value in tries:
        config = deepcopy(compose(base, folder))
        OmegaConf.update(config, key, value, merge=False)
        run_dir = folder / "run"
        print(f"CASE {base} {key}={value!r}", flush=True)
        try:
            summary = run(config, run_dir, [])
        except UserError as error:
            text = str(error)
            group = key.split(".")[0]
            good = "\n" not in text and len(text) < 400 and (group in text or "memory" in text)
            say([CLEAR if good else LOST, f"{base} {key}={value!r}: {text}"])
        except BaseException as error:
            text = f"{type(error).__name__}: {str(error)[:200]}"
            say([LOST, f"{base} {key}={value!r}: {text}"])
        else:
            # A number may be too large for a model to learn: then divergence is the result.
            number = isinstance(value, (int, float)) and 1 <= abs(value) < FLOAT32
            good = summary["status"] == "completed" or (summary["status"] == "diverged" and number)
            say([SURVIVED if good else WRONG, f"{base} {key}={value!r}: {summary['status']}"])
        shutil.rmtree(run_dir, ignore_errors=True)


def outcomes_of(folder: Path, tries: list[tuple[str, str, Any]]) -> Iterator[Outcome]:
    """Yields the outcome of every case; one that hangs or ends its process costs no other."""
    number = 0
    while tries:
        number += 1
        child = Child(partial(attempt, folder, tries), folder / f"fuzz.{number}.log")
        done, last = 0, child.started
        while True:
            ended = not child.alive()
            results = [line for line in child.output().split("\n") if line.startswith("RESULT ")]
            if len(results) > done:
                for line in results[done:]:
                    yield Outcome(*json.loads(line.removeprefix("RESULT ")))
                done, last = len(results), time.monotonic()
            elif ended:
                break
            else:
                if time.monotonic() - last > SECONDS:
                    child.process.kill()
                time.sleep(0.1)
        tries = tries[done:]
        if tries:  # the process ended in the midst of a case
            base, key, value = tries.pop(0)
            yield Outcome(LOST, f"{base} {key}={value!r}: the process hung or died")


@fault("nonsense in a config key", full=10_000, short=60)
def nonsense(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Sets one key at a time to a value of a wrong type, negative, zero, huge or not finite."""
    found = cases(folder)
    chosen = found if tries >= len(found) else rng.sample(found, tries)
    bases = [base for base in BASES if any(base == used for used, _, _ in chosen)]
    for outcome in outcomes_of(folder, [(base, "seed", 1) for base in bases]):
        assert outcome.kind == SURVIVED, outcome
    yield from outcomes_of(folder, chosen)
