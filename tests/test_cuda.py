"""What needs a CUDA GPU: training, resuming, bf16, the kernels of real models.

The same tests run on the CPU, so that they are known to be right before they meet a GPU.
"""

import json

import pytest
import torch

from normlab.runs import job

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICES = [pytest.param("cpu", marks=pytest.mark.long), pytest.param("cuda", marks=GPU)]


def losses(run_dir):
    lines = (run_dir / "metrics.jsonl").read_text().split("\n")
    records = [json.loads(line) for line in lines if line]
    return [record["train/loss"] for record in records if "train/loss" in record]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rnn", [False, True])
@pytest.mark.parametrize("norm", ["none", "layernorm", "rmsnorm", "prmsnorm"])
def test_a_model_learns(tiny_config, tmp_path, device, rnn, norm):
    # A rate at which 12 steps show; of 16 inputs one, which is 6.25 %, would be no estimate.
    learning = ["schedule=constant", "schedule.lr=0.003", *["norm.p=0.5"] * (norm == "prmsnorm")]
    config = tiny_config(f"norm={norm}", f"trainer.device={device}", *learning, rnn=rnn)
    summary = job.run(config, tmp_path / "r", [])
    assert summary["status"] == "completed"
    found = losses(tmp_path / "r")
    assert found[-1] < found[0]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rnn", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(tiny_config, tmp_path, device, precision, rnn):
    settings = [
        f"trainer.device={device}",
        f"trainer.precision={precision}",
        "trainer.deterministic=true",
    ]
    try:
        job.run(tiny_config(*settings, rnn=rnn), tmp_path / "whole", [])
        for steps in (7, 12):
            config = tiny_config(*settings, f"trainer.max_steps={steps}", rnn=rnn)
            job.run(config, tmp_path / "parts", [])
    finally:
        torch.use_deterministic_algorithms(False)

    def weights(name):
        path = tmp_path / name / "checkpoints" / "last.pt"
        return torch.load(path, map_location="cpu", weights_only=True)["model"]

    a, b = weights("whole"), weights("parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm"])
def test_implementations_train_alike(tiny_config, tmp_path, device, norm):
    found = {}
    for impl in ("composed", "native", "fused"):
        settings = [f"norm={norm}", f"norm.impl={impl}", f"trainer.device={device}"]
        job.run(tiny_config(*settings), tmp_path / impl, [])
        found[impl] = losses(tmp_path / impl)
    assert found["native"] == pytest.approx(found["composed"], rel=1e-4)
    assert found["fused"] == pytest.approx(found["composed"], rel=1e-4)


@GPU
@pytest.mark.parametrize(("precision", "rel"), [("fp32", 1e-3), ("bf16", 3e-2)])
def test_compiled_trains_alike(tiny_config, tmp_path, precision, rel):
    found = {}
    for compiled in ("false", "true"):
        settings = ["trainer.device=cuda", f"trainer.precision={precision}", "model.dropout=0"]
        settings += ["norm=rmsnorm", "norm.impl=composed", f"trainer.compile={compiled}"]
        job.run(tiny_config(*settings), tmp_path / compiled, [])
        found[compiled] = losses(tmp_path / compiled)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert found["true"] == pytest.approx(found["false"], rel=rel)


@GPU
def test_a_gpu_and_a_cpu_train_alike(tiny_config, tmp_path):
    for device in ("cpu", "cuda"):
        settings = [f"trainer.device={device}", "model.dropout=0", "norm.impl=composed"]
        job.run(tiny_config(*settings), tmp_path / device, [])
    assert losses(tmp_path / "cuda") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-3)
