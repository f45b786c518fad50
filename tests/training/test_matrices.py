"""What is logged of each weight matrix on request."""

import json

import pytest
import torch
from torch import nn

from normlab.runs import job
from normlab.training.matrix_speeds import Matrices


def test_the_numbers_of_a_step_written_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
    optimizer, matrices = torch.optim.SGD(model.parameters(), lr=0.5), Matrices(model)
    assert list(matrices.parameters) == ["0.weight"]  # no vectors
    model(torch.randn(4, 3)).square().sum().backward()
    weight, gradient = (x.detach().clone() for x in (model[0].weight, model[0].weight.grad))
    matrices.before_step()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    matrices.after_step()
    after = model[0].weight.detach()
    assert matrices.take() == pytest.approx(
        {
            "matrix/0.weight/weight_norm": weight.norm().item(),
            "matrix/0.weight/grad_norm": gradient.norm().item(),  # before clipping
            "matrix/0.weight/effective_lr": ((after - weight).norm() / weight.norm()).item(),
        }
    )
    assert matrices.take() == {}


def metrics(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines if line]


@pytest.mark.slow
def test_a_run_logs_every_matrix_every_log_every_steps_and_learns_the_same(tiny_config, tmp_path):
    summaries = {}
    for on in (True, False):
        config = tiny_config(f"trainer.per_matrix={str(on).lower()}", "trainer.log_every=3")
        summaries[on] = job.run(config, tmp_path / str(on), [])
    plain = metrics(tmp_path / "False")
    assert not any(key.startswith("matrix/") for line in plain for key in line)
    found = [line for line in metrics(tmp_path / "True") if any("matrix/" in key for key in line)]
    assert [line["step"] for line in found] == [3, 6, 9, 12]
    name = "matrix/encoder.0.self_attention.qkv.weight/effective_lr"
    assert all(0 < line[name] < 1 for line in found)
    losses = [
        [line.get("train/loss") for line in metrics(tmp_path / str(x))] for x in (True, False)
    ]
    assert losses[0] == losses[1]


@pytest.mark.slow
def test_a_run_with_it_resumes_without_it(tiny_config, tmp_path):
    job.run(tiny_config("trainer.per_matrix=true", "trainer.max_steps=4"), tmp_path, [])
    assert job.run(tiny_config("trainer.max_steps=8"), tmp_path, [])["status"] == "completed"
