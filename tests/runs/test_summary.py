"""The last lines on the screen."""

from pathlib import Path
from types import SimpleNamespace

from normlab.runs.summary import in_words


def test_the_contrast_is_the_same_command_with_another_mean_or_norm():
    config = SimpleNamespace(init_mean=0.2, names=SimpleNamespace(norm="prmsnorm"))
    task = SimpleNamespace(result="bleu", metric=SimpleNamespace(key="dev/bleu"))
    summary = {
        "status": "completed",
        "steps": 10,
        "best_dev": {"value": 0.1},
        "seconds_per_1k_steps": 9.0,
        "training_seconds": 70.0,
        "dev": {"dev/nll": 6.0},
        "guessing": {"metric": "dev/nll", "value": 6.1},
        "learned": False,
    }
    overrides = ["norm=prmsnorm", "norm.p=0.1", "init.mean=0.2", "data.dir=my corpus"]
    lines = in_words(task, summary, config, overrides, Path("runs/r"))
    assert lines[-3:] == [
        "The contrast, some 1 min of training each:",
        "    python train.py norm=prmsnorm init.mean=0 norm.p=0.1 'data.dir=my corpus'"
        "  # initial weights around 0",
        "    python train.py norm=layernorm init.mean=0.2 'data.dir=my corpus'  # LayerNorm",
    ]
