"""Whole runs, in this process: what they leave behind, and how mistakes are answered."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from normlab import run
from normlab.errors import UserError


def read(run_dir):
    summary = json.loads((run_dir / "summary.json").read_text())
    lines = (run_dir / "metrics.jsonl").read_text().split("\n")
    return summary, [json.loads(line) for line in lines if line]


def lines_of(path):
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def test_the_run_directory_contract(tiny_config, tmp_path):
    run_dir = tmp_path / "run"
    run.run(tiny_config("norm=rmsnorm", "init.mean=0.2", "seed=3"), run_dir, ["seed=3"])
    summary, metrics = read(run_dir)
    contract = {
        "status", "norm", "norm_impl", "init_mean", "model", "data", "seed", "steps", "parameters",
        "best_dev_bleu", "test", "seconds_per_1k_steps", "tokens_per_second", "device", "torch",
        "commit",
    }  # fmt: skip
    assert contract <= set(summary)
    assert (summary["status"], summary["steps"], summary["seed"]) == ("completed", 12, 3)
    assert summary["norm_impl"] in ("fused", "composed")  # as the machine has a compiler or not
    assert summary["init_mean"] == 0.2
    assert {"bleu", "chrf", "signature", "sentences"} <= set(summary["test"]["test"])
    keys = set().union(*metrics)
    assert {
        "train/loss",
        "train/grad_norm",
        "dev/loss",
        "dev/bleu",
        "dev/chrf",
        "test/bleu",
    } <= keys
    hypotheses = lines_of(run_dir / "hypotheses" / "test.txt")
    references = lines_of(run_dir / "references" / "test.txt")
    assert len(hypotheses) == len(references) == 8
    weights = torch.load(run_dir / "checkpoints" / "last.pt", weights_only=True)["model"]
    distinct = {w.data_ptr(): w.numel() for w in weights.values()}  # embeddings are shared
    assert sum(distinct.values()) == summary["parameters"]
    config = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
    assert config.init.mean == 0.2 and OmegaConf.load(run_dir / ".hydra" / "overrides.yaml")


def test_same_config_and_seed_same_numbers_another_seed_others(tiny_config, tmp_path):
    def losses(name, *overrides):
        run.run(tiny_config(*overrides), tmp_path / name, [])
        return [line["train/loss"] for line in read(tmp_path / name)[1] if "train/loss" in line]

    assert losses("a") == losses("b") != losses("c", "seed=2")


def test_a_finished_run_is_found_and_not_repeated(tiny_config, tmp_path):
    first = run.run(tiny_config(), tmp_path / "r", [])
    stamp = (tmp_path / "r" / "metrics.jsonl").stat().st_mtime_ns
    assert run.run(tiny_config(), tmp_path / "r", []) == json.loads(json.dumps(first))
    assert (tmp_path / "r" / "metrics.jsonl").stat().st_mtime_ns == stamp
    longer = run.run(tiny_config("trainer.max_steps=16"), tmp_path / "r", [])
    assert longer["steps"] == 16


def test_a_directory_of_another_config_is_refused_and_left_alone(tiny_config, tmp_path):
    run.run(tiny_config("norm=rmsnorm"), tmp_path / "r", [])
    before = {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}
    message = "holds a run of another config: init.mean=0.0 .now 0.2., seed=1 .now 2."
    with pytest.raises(UserError, match=message):
        run.run(tiny_config("norm=rmsnorm", "init.mean=0.2", "seed=2"), tmp_path / "r", [])
    assert before == {p: p.read_bytes() for p in (tmp_path / "r").rglob("*") if p.is_file()}


def test_divergence_is_a_result(tiny_config, tmp_path):
    summary = run.run(
        tiny_config("norm=none", "schedule=constant", "schedule.lr=1e30"), tmp_path / "r", []
    )
    assert summary["status"] == "diverged"
    assert 1 <= summary["diverged_at"] <= 12
    assert summary["best_dev_bleu"] == summary["test"]["test"]["bleu"] == 0
    assert json.loads((tmp_path / "r" / "summary.json").read_text())["status"] == "diverged"


def test_a_crash_leaves_its_error_in_the_summary(tiny_config, tmp_path, caplog):
    (tmp_path / "r" / "metrics.jsonl").mkdir(parents=True)  # cannot be opened as a file
    with pytest.raises(IsADirectoryError):
        run.run(tiny_config(), tmp_path / "r", [])
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["status"] == "failed" and "IsADirectoryError" in summary["error"]
    assert "Traceback" in caplog.text


def test_a_truncated_last_checkpoint_falls_back(tiny_config, tmp_path, caplog):
    run.run(tiny_config("trainer.max_steps=10"), tmp_path / "r", [])
    caplog.set_level("INFO")
    newest = sorted((tmp_path / "r" / "checkpoints").glob("step_*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    summary = run.run(tiny_config(), tmp_path / "r", [])
    assert summary["status"] == "completed" and summary["steps"] == 12
    assert "Falling back" in caplog.text and "Resuming at step 5" in caplog.text


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.precision=bf16",),
        ("model.norm_placement=pre", "model.share_embeddings=false"),
        ("trainer.average=2", "trainer.eval_beam=3"),
        ("optimizer=adamw", "schedule=constant", "init=normal"),
        ("norm=none", "init=uniform", "init.apply_to=[all]", "init.mean=0.01"),
        ("norm=prmsnorm", "norm.p=0.5", "trainer.deterministic=true"),
        ("data.src=de", "data.tgt=en"),
    ],
    ids=" ".join,
)
def test_every_switch_trains(tiny_config, tmp_path, overrides):
    summary = run.run(tiny_config(*overrides), tmp_path / "r", [])
    assert summary["status"] == "completed"
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize(
    "overrides",
    [
        ("init=nematus", "init.mean=0.2", "schedule=constant"),
        ("norm=none", "trainer.precision=bf16", "model.share_embeddings=true"),
        ("norm=weightnorm", "init.apply_to=[score,recurrent]", "init.mean=0.1"),
        ("norm=l2norm", "trainer.eval_beam=3", "trainer.average=2", "trainer.deterministic=true"),
    ],
    ids=" ".join,
)
def test_every_switch_trains_rnnsearch(tiny_config, tmp_path, overrides):
    summary = run.run(tiny_config(*overrides, rnn=True), tmp_path / "r", [])
    assert summary["status"] == "completed"
    torch.use_deterministic_algorithms(False)


def test_rnnsearch_goes_on_where_it_stopped(tiny_config, tmp_path):
    run.run(tiny_config(rnn=True), tmp_path / "whole", [])
    for steps in (7, 12):
        run.run(tiny_config(f"trainer.max_steps={steps}", rnn=True), tmp_path / "parts", [])

    def weights(name):
        return torch.load(tmp_path / name / "checkpoints/last.pt", weights_only=True)["model"]

    a, b = weights("whole"), weights("parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_hidden_statistics_in_metrics_and_of_a_finished_run(tiny_config, tmp_path):
    config = tiny_config("trainer.hidden_stats=true", "trainer.max_steps=6", rnn=True)
    run.run(config, tmp_path / "r", [])
    (line,) = [line for line in read(tmp_path / "r")[1] if "dev/bleu" in line]
    logged = {key: value for key, value in line.items() if key.startswith("hidden/")}
    assert {"hidden/gru1_gates_before/mean_1", "hidden/gru2_candidate_after/std_all"} <= set(logged)
    assert run.load(tmp_path / "r", device="cpu").hidden_statistics() == pytest.approx(logged)


@pytest.mark.parametrize("rnn", [False, True])
@pytest.mark.parametrize("norm", ["layernorm", "weightnorm"])
def test_a_loaded_run_translates_as_its_test_did(tiny_config, tmp_path, norm, rnn):
    config = tiny_config(f"norm={norm}", rnn=rnn)
    run.run(config, tmp_path / "r", [])
    loaded = run.load(tmp_path / "r", device="cpu")
    from normlab.build import load_data

    from normlab import schema

    corpus, _ = load_data(schema.check(config))
    outputs = [run.one_line(text) for text in loaded.translate(corpus.test["test"].src)]
    assert outputs == lines_of(tmp_path / "r" / "hypotheses" / "test.txt")
    assert len(loaded.translate(["", "The dog sleeps.", "x " * 500])) == 3
    assert loaded.translate([]) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("+norm.epz=1",), r"norm\.epz is no argument of norm=test: it has eps, gain, bias, impl"),
        (("norm=prmsnorm", "norm.p=0"), r"p must be a fraction in \(0, 1\], got 0"),
        (("norm.impl=fast",), r"impl=fast does not exist for LayerNorm"),
        (("model.heads=3",), r"model\.d_model=16 must be even and divisible by model\.heads=3"),
        (("model.norm_placement=no",), r"model\.norm_placement must be post or pre, got no"),
        (("trainer.max_steps=-5",), r"trainer\.max_steps must be >= 1, got -5"),
        (("trainer.max_steps=null",), "training would never end: set trainer.max_steps"),
        (("trainer.max_steps=soon",), r"trainer\.max_steps: Value 'soon'"),
        (("+trainer.max_step=5",), "max_step"),
        (("model.dropout=1",), r"model\.dropout must be below 1"),
        (("trainer.precision=fp8",), r"trainer\.precision=fp8 is unknown: use fp32 or bf16"),
        (("trainer.average=3",), r"trainer\.keep=2"),
        (("init.apply_to=[attentoin]",), r"init\.apply_to=attentoin names no weights"),
        (("data.vocab_size=4000",), r"data\.vocab_size=4000 is more than the training data"),
        (("schedule.warmup=0",), r"inverse_sqrt needs schedule\.warmup >= 1"),
        (("seed=-1",), "seed must be >= 0"),
        (("trainer.hidden_stats=true",), "need a recurrent decoder, and Transformer has none"),
        (("init.scheme=he",), r"init\.scheme=he is unknown: use xavier_uniform or uniform"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(tiny_config, tmp_path, overrides, message):
    with pytest.raises(UserError, match=message) as caught:
        run.run(tiny_config(*overrides), tmp_path / "r", [])
    assert "\n" not in str(caught.value)
    summary = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert summary["status"] == "failed" and str(caught.value) in summary["error"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_asked_for_and_absent(tiny_config, tmp_path):
    with pytest.raises(UserError, match="trainer.device=cuda, but torch sees no GPU"):
        run.run(tiny_config("trainer.device=cuda"), tmp_path / "r", [])


def test_no_run_and_no_checkpoint_are_named(tiny_config, tmp_path):
    with pytest.raises(UserError, match="is no run directory"):
        run.load(tmp_path)
    run.run(tiny_config(), tmp_path / "r", [])
    with pytest.raises(UserError, match=r"there is no checkpoint .*average\.pt"):
        run.load(tmp_path / "r", "average")
