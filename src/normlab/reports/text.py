"""How a value, a mean and a metric are written, in tables and figures alike."""

import re
import statistics
from collections.abc import Sequence
from typing import Any

from normlab.registration import Hypothesis

# What stands on an axis and in a head: quantity, unit or decoding.
METRICS = {
    "train/loss": "training loss",
    "train/nll": "training NLL (nats per token)",
    "train/error": "train error (%), in training mode",
    "train/grad_norm": "mean gradient norm before clipping",
    "dev/nll": "dev NLL (nats per token)",
    "dev/loss": "dev loss",
    "dev/bleu": "dev SacreBLEU, greedy",
    "best_dev": "best dev SacreBLEU, greedy",
    "test/bleu": "test SacreBLEU",
    "dev/error": "dev error (%)",
    "test/error": "test error (%), best dev weights",
    "dev/recall": "dev recall (%), mean of R@1, R@5 and R@10",
    "test/recall": "test recall (%), best dev weights",
    "dev/caption_r1": "dev R@1 (%), captions looked for",
    "dev/caption_r10": "dev R@10 (%), captions looked for",
    "dev/image_r1": "dev R@1 (%), images or translations looked for",
    "dev/image_r10": "dev R@10 (%), images or translations looked for",
    "model.norm_placement": "norm placement",
    "init.mean": "mean of the initial weights",
    "init.apply_to": "shifted tensors",
    "norm.p": "share of the inputs in the RMS",
    "model.d_hidden": "width of the hidden layers",
    "schedule.lr": "learning rate",
    "train/step_ms": "time of a step (ms)",
    "train/items_per_second": "items per second",
    "step": "training step",
    "time": "training time (seconds)",
}
HIDDEN = {  # of a Transformer's norms
    "cos_before": "absolute cosine to (1, ..., 1) of what enters",
    "length_before": "length of what enters",
    "rotation": "rotation (degrees) by",
}
MATRIX = {
    "weight_norm": "norm",
    "grad_norm": "gradient norm",
    "effective_lr": "relative step",
}
# Ends of a key: "mean_rank" too.
LOWER_IS_BETTER = ("nll", "loss", "error", "rank", "violation", "step_ms")
NEITHER_IS_BETTER = ("grad_norm", "weight_norm", "effective_lr")


def metric(key: str) -> str:
    """Returns the name of a metric or config key in words; the key itself when it has none."""
    if "@" in key:
        key, _, step = key.partition("@")
        window = ", last steps up to" if key.startswith("train/") else " at step"
        return f"{metric(key)}{window} {step}"
    if key.startswith("test/") and key.count("/") == 2:
        _, test_set, kind = key.split("/")
        return f"{test_set}: test {'SacreBLEU' if kind == 'bleu' else kind}"
    if key.startswith("matrix/"):
        name, _, what = key.removeprefix("matrix/").rpartition("/")
        return f"{MATRIX[what]} of {name.removesuffix('.weight').replace('.', ' ')}"
    if key.startswith("hidden/"):
        where, _, what = key.removeprefix("hidden/").rpartition("/")
        norm = "a norm" if where == "all" else where.removesuffix(".norm").replace(".", " ")
        return f"{HIDDEN[what]} {norm}" if what in HIDDEN else what
    return METRICS.get(key, key)


def lower_is_better(key: str) -> bool:
    """Returns whether a smaller value of the metric is the better one.

    "best_dev" is taken for a BLEU: tables of other tasks name their metric.
    """
    return _kind(key).endswith(LOWER_IS_BETTER)


def has_better(key: str) -> bool:
    """Returns whether one value of the metric is better than another: no gradient norm is."""
    return not key.startswith("hidden/") and _kind(key) not in NEITHER_IS_BETTER


def _kind(key: str) -> str:
    return key.partition("@")[0].rpartition("/")[2]


def value(found: Any) -> str:
    """Returns a config value as it stands in a table: lists joined, nothing for an empty one."""
    if isinstance(found, list | tuple):
        return "+".join(map(str, found)) or "nothing"
    return f"{found:g}" if isinstance(found, float) else str(found)


def arm(point: Sequence[tuple[str, Any]]) -> str:
    """Returns an arm in words: "rmsnorm, init.mean=0.2"."""

    def one(key: str, found: Any) -> str:
        if key == "norm":
            return "no norm" if found == "none" else value(found)
        return f"{key}={value(found)}"

    return ", ".join(one(key, found) for key, found in point) or "all runs"


def mean_std(values: Sequence[float]) -> str:
    """Returns "mean ± standard deviation", "-" when there are no values."""
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def power(hypothesis: Hypothesis) -> str:
    """Returns a registered power with the difference it holds for: "0.93 at +1"."""
    if hypothesis.power is None:
        return "-"
    at = f"{hypothesis.expected:+g}" if hypothesis.expected else "0"
    if hypothesis.rule == "fails":
        at = f"a share of {hypothesis.expected:g}"
    return f"{hypothesis.power:.2f} at {at}"


def commit(found: str | None) -> str:
    """Returns a commit as git shortens it, and what stands in place of one without git."""
    if not found:
        return "unknown (no git)"
    digits, plus, rest = found.partition("+")
    return digits[:10] + plus + rest


def one_line(text: str) -> str:
    """Returns a text without its line breaks."""
    return " ".join(text.split())


def bullets(markdown: str) -> list[str]:
    """Returns the items of a Markdown list as plain text, links by their words."""
    items = [one_line(item) for item in re.split(r"^- ", markdown, flags=re.MULTILINE)]
    return [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", item).replace("`", "") for item in items if item]
