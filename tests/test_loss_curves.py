"""Recorded loss curves: 20 steps of each model with each norm give the numbers that they gave.

A change of the arithmetic shows here. After one that is meant, `python tests/test_loss_curves.py`
records anew, and the note of the commit says why. Losses are compared to 1e-4, relative: rounding
on another CPU is a hundred times smaller, a change of a formula larger.
"""

import json
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_RNN

from normlab.devices import autocast
from normlab.runs import components
from normlab.runs.config import parse_config
from normlab.runs.sweeps import compose_job
from normlab.training.step import update

RECORDED = Path(__file__).with_name("loss_curves.json")
CONF = Path(__file__).parents[1] / "conf"
CPU = torch.device("cpu")
STEPS = 20
MODELS = {
    "transformer, post-norm": (*TINY, "model.norm_placement=post"),
    "transformer, pre-norm": (*TINY, "model.norm_placement=pre"),
    "rnnsearch": TINY_RNN,
}
NORMS = {
    "none": ("norm=none",),
    "layernorm": ("norm=layernorm", "norm.impl=composed"),
    "rmsnorm": ("norm=rmsnorm", "norm.impl=composed"),
    "prmsnorm": ("norm=prmsnorm", "norm.impl=composed", "norm.p=0.25"),
}
# Fast enough that the norms act on what has been learned, and without dropout, whose masks a
# change of torch's generator would change.
LEARNING = ("model.dropout=0", "init.mean=0.05", "data.max_length=64", "model.max_length=512")
RATE = 0.003


def curve(model, norm, cache):
    """Returns [loss, gradient norm] of each step of training, fp32 on one thread."""
    overrides = [*MODELS[model], *NORMS[norm], *LEARNING, f"data.cache_dir={cache}"]
    config = parse_config(compose_job(CONF, overrides))
    task = components.build_task(config)
    torch.manual_seed(config.seed)
    network = components.build_model(config, task.model_arguments)
    components.initialize_model(network, config)
    objective, optimizer = task.objective(network), components.build_optimizer(network, config)
    batches, parameters = task.batches(0), list(network.parameters())
    points = []
    for step in range(1, STEPS + 1):
        batch = batches[step % len(batches)]()
        sums, grad_norm = update(
            objective, [batch], parameters, optimizer, RATE,
            clip=config.trainer.clip, precision=autocast("fp32", CPU),
        )  # fmt: skip
        total, count = sums["loss"]
        points.append([total.item() / count, grad_norm.item()])
    return points


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    "model", [*list(MODELS)[:2], pytest.param("rnnsearch", marks=pytest.mark.slow)]
)
def test_the_loss_curve_is_the_recorded_one(model, norm, tiny_cache, one_thread):
    expected = json.loads(RECORDED.read_text(encoding="utf-8"))[model][norm]
    losses, grad_norms = zip(*curve(model, norm, tiny_cache), strict=True)
    recorded_losses, recorded_norms = zip(*expected, strict=True)
    assert losses == pytest.approx(recorded_losses, rel=1e-4)
    assert grad_norms == pytest.approx(recorded_norms, rel=1e-3)


def test_the_recorded_curves_fall_and_differ():
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    for curves in recorded.values():
        ends = {norm: points[-1][0] for norm, points in curves.items()}
        assert all(points[-1][0] < points[0][0] - 0.05 for points in curves.values()), ends
        ordered = sorted(ends.values())
        assert all(b - a > 1e-3 for a, b in zip(ordered, ordered[1:], strict=False)), ends


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        curves = {
            model: {
                norm: [[float(f"{x:.7g}") for x in point] for point in curve(model, norm, folder)]
                for norm in NORMS
            }
            for model in MODELS
        }
    lines = json.dumps(curves, indent=1).replace("\n    ", " ").replace("\n   ]", "]")
    RECORDED.write_text(lines + "\n", encoding="utf-8")
