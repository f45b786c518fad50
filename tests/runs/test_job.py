"""Whole runs, in this process: what they leave behind, and how mistakes are answered."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from processes import metrics_of, summary_of

from normlab.errors import UserError
from normlab.runs.arguments import target_of
from normlab.runs.components import build_task
from normlab.runs.config import parse_config
from normlab.runs.job import run
from normlab.runs.loaded import load_run, load_translator

LONG = pytest.mark.long
TEXT = ("data=text", "data.dir=/nowhere", "data.train=a", "data.dev=a", "data.test=[a]")


def read(run_dir):
    return summary_of(run_dir), metrics_of(run_dir)


def lines_of(path):
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def weights_of(run_dir, name="last"):
    return torch.load(run_dir / "checkpoints" / f"{name}.pt", weights_only=True)["model"]


def test_the_run_directory_contract(tiny_config, tmp_path):
    run_dir = tmp_path / "run"
    run(tiny_config("norm=rmsnorm", "init.mean=0.2", "seed=3"), run_dir, ["seed=3"])
    summary, metrics = read(run_dir)
    contract = {
        "status", "task", "norm", "norm_impl", "init_mean", "model", "data", "seed", "steps",
        "parameters", "best_dev", "test", "seconds_per_1k_steps", "items_per_second", "item",
        "device", "torch", "commit", "world_size", "segments",
    }  # fmt: skip
    assert contract <= set(summary)
    assert (summary["status"], summary["steps"], summary["seed"]) == ("completed", 12, 3)
    assert (summary["task"], summary["item"]) == ("translation", "target tokens")
    assert summary["norm_impl"] in ("fused", "composed")  # as the machine has a compiler or not
    assert summary["init_mean"] == 0.2
    assert summary["best_dev"]["metric"] == "dev/bleu"
    assert {"bleu", "chrf", "signature", "sentences"} <= set(summary["test"]["test"])
    keys = set().union(*metrics)
    assert {
        "train/loss",
        "train/nll",
        "train/grad_norm",
        "dev/loss",
        "dev/bleu",
        "dev/chrf",
        "test/bleu",
    } <= keys
    hypotheses = lines_of(run_dir / "hypotheses" / "test.txt")
    references = lines_of(run_dir / "references" / "test.txt")
    assert len(hypotheses) == len(references) == 8
    weights = weights_of(run_dir)
    distinct = {w.data_ptr(): w.numel() for w in weights.values()}  # embeddings are shared
    assert sum(distinct.values()) == summary["parameters"]
    config = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
    assert config.init.mean == 0.2 and OmegaConf.load(run_dir / ".hydra" / "overrides.yaml")


@pytest.mark.slow
def test_same_config_and_seed_same_numbers_another_seed_others(tiny_config, tmp_path):
    def losses(name, *overrides):
        run(tiny_config(*overrides), tmp_path / name, [])
        return [line["train/loss"] for line in read(tmp_path / name)[1] if "train/loss" in line]

    assert losses("a") == losses("b") != losses("c", "seed=2")


def test_ctrl_c_in_the_upload_of_a_finished_run_cuts_off_the_upload_only(
    tiny_config, tmp_path, monkeypatch, caplog
):
    wandb = pytest.importorskip("wandb")

    class Uploading:
        offline, disabled, url, tags, summary = True, False, "", (), {}

        def log(self, values, step):
            pass

        def finish(self, exit_code):
            self.there = summary_of(tmp_path / "run")["status"]
            raise KeyboardInterrupt

    uploading = Uploading()
    monkeypatch.setattr(wandb, "init", lambda **settings: uploading)
    monkeypatch.setenv("WANDB_MODE", "offline")
    summary = run(tiny_config("logger=wandb"), tmp_path / "run", [])
    assert uploading.there == summary["status"] == "completed"
    assert summary_of(tmp_path / "run")["status"] == "completed"
    assert "the upload was cut short" in caplog.text


def test_a_finished_run_is_found_and_not_repeated(tiny_config, tmp_path):
    first = run(tiny_config(), tmp_path / "r", [])
    stamp = (tmp_path / "r" / "metrics.jsonl").stat().st_mtime_ns
    again = run(tiny_config(), tmp_path / "r", [])
    assert again.pop("files")  # hashes of what stands beside it
    assert again == json.loads(json.dumps(first))
    assert (tmp_path / "r" / "metrics.jsonl").stat().st_mtime_ns == stamp
    longer = run(tiny_config("trainer.max_steps=16"), tmp_path / "r", [])
    assert longer["steps"] == 16


def test_divergence_is_a_result(tiny_config, tmp_path):
    summary = run(
        tiny_config("norm=none", "schedule=constant", "schedule.lr=1e30"), tmp_path / "r", []
    )
    assert summary["status"] == "diverged"
    assert 1 <= summary["diverged_at"] <= 12
    assert summary["best_dev"]["value"] == summary["test"]["test"]["bleu"] == 0
    assert summary_of(tmp_path / "r")["status"] == "diverged"


def test_a_crash_leaves_its_error_in_the_summary(tiny_config, tmp_path, caplog):
    (tmp_path / "r" / "metrics.jsonl").mkdir(parents=True)  # cannot be opened as a file
    with pytest.raises(IsADirectoryError):
        run(tiny_config(), tmp_path / "r", [])
    summary = summary_of(tmp_path / "r")
    assert summary["status"] == "failed" and "IsADirectoryError" in summary["error"]
    assert "Traceback" in (tmp_path / "r" / "train.log").read_text(encoding="utf-8")
    assert "Traceback" not in caplog.text and "IsADirectoryError" in caplog.text


@pytest.mark.slow
def test_a_truncated_last_checkpoint_falls_back(tiny_config, tmp_path, caplog):
    run(tiny_config("trainer.max_steps=10"), tmp_path / "r", [])
    caplog.set_level("INFO")
    newest = sorted((tmp_path / "r" / "checkpoints").glob("step_*.pt"))[-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    summary = run(tiny_config(), tmp_path / "r", [])
    assert summary["status"] == "completed" and summary["steps"] == 12
    assert "Falling back" in caplog.text and "Resuming at step 5" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.precision=bf16",),
        ("model.norm_placement=post", "model.share_embeddings=false"),
        ("trainer.average=2", "decoding.eval_beam=3"),
        ("optimizer=adamw", "schedule=constant", "init=normal"),
        ("norm=none", "init=uniform", "init.apply_to=[all]", "init.mean=0.01"),
        ("norm=prmsnorm", "norm.p=0.5", "trainer.deterministic=true"),
        ("data.src=de", "data.tgt=en"),
    ],
    ids=" ".join,
)
def test_every_switch_trains(tiny_config, tmp_path, overrides):
    summary = run(tiny_config(*overrides), tmp_path / "r", [])
    assert summary["status"] == "completed"
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(("init=nematus", "init.mean=0.2", "schedule=constant"), marks=LONG),
        ("norm=none", "trainer.precision=bf16", "model.share_embeddings=true"),
        pytest.param(
            ("norm=weightnorm", "init.apply_to=[score,recurrent]", "init.mean=0.1"), marks=LONG
        ),
        pytest.param(
            (
                "norm=l2norm",
                "decoding.eval_beam=3",
                "trainer.average=2",
                "trainer.deterministic=true",
            ),
            marks=LONG,
        ),
    ],
    ids=" ".join,
)
def test_every_switch_trains_rnnsearch(tiny_config, tmp_path, overrides):
    summary = run(tiny_config(*overrides, rnn=True), tmp_path / "r", [])
    assert summary["status"] == "completed"
    torch.use_deterministic_algorithms(False)


@pytest.mark.slow
def test_rnnsearch_goes_on_where_it_stopped(tiny_config, tmp_path):
    run(tiny_config(rnn=True), tmp_path / "whole", [])
    for steps in (7, 12):
        run(tiny_config(f"trainer.max_steps={steps}", rnn=True), tmp_path / "parts", [])
    a, b = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_hidden_statistics_in_metrics_and_of_a_finished_run(tiny_config, tmp_path):
    config = tiny_config("task.hidden_stats=true", "trainer.max_steps=6", rnn=True)
    run(config, tmp_path / "r", [])
    (line,) = [line for line in metrics_of(tmp_path / "r") if "dev/bleu" in line]
    logged = {key: value for key, value in line.items() if key.startswith("hidden/")}
    assert {"hidden/gru1_gates_before/mean_1", "hidden/gru2_candidate_after/std_all"} <= set(logged)
    parts = load_run(tmp_path / "r", device="cpu").with_data()
    statistics = parts.task.hidden_statistics(parts.model, parts.device)
    assert statistics == pytest.approx(logged)


@pytest.mark.parametrize("norm", ["layernorm", pytest.param("none", marks=pytest.mark.slow)])
def test_a_transformers_hidden_vectors_are_in_its_metrics(tiny_config, tmp_path, norm):
    config = tiny_config("task.hidden_stats=true", "trainer.max_steps=6", f"norm={norm}")
    run(config, tmp_path / "r", [])
    (line,) = [line for line in metrics_of(tmp_path / "r") if "dev/bleu" in line]
    assert 0 < line["hidden/all/cos_before"] < 1
    after = line["hidden/encoder_norm/cos_after"]
    same = after == line["hidden/encoder_norm/cos_before"]
    assert same if norm == "none" else after < 0.1  # LayerNorm takes out what lies along 1


@pytest.mark.parametrize("rnn", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["layernorm", pytest.param("weightnorm", marks=pytest.mark.long)])
def test_a_loaded_run_translates_as_its_test_did(tiny_config, tmp_path, norm, rnn):
    config = tiny_config(f"norm={norm}", "data.max_length=100", "model.max_length=100", rnn=rnn)
    run(config, tmp_path / "r", [])
    translator = load_translator(tmp_path / "r", device="cpu")
    corpus = build_task(parse_config(config)).corpus
    outputs, cut = translator(corpus.test["test"].src)
    assert outputs == lines_of(tmp_path / "r" / "hypotheses" / "test.txt")
    assert cut == []
    outputs, cut = translator(["", "The dog sleeps.", "x " * 500])
    assert len(outputs) == 3 and cut == [2]
    assert translator([]) == ([], [])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("+norm.epz=1",), r"norm\.epz is no key of the config: norm has eps, gain, bias, impl"),
        (("norm=prmsnorm", "norm.p=0"), r"norm\.p must be a fraction in \(0, 1\], got 0"),
        (("norm.impl=fast",), r"norm\.impl=fast does not exist for LayerNorm"),
        (("model.heads=3",), r"model\.d_model=16 must be even and divisible by model\.heads=3"),
        (("model.norm_placement=no",), r"model\.norm_placement=no is unknown: use post or pre"),
        (("trainer.max_steps=-5",), r"trainer\.max_steps must be >= 1, got -5"),
        (("trainer.max_steps=null",), "training would never end: set trainer.max_steps"),
        (("trainer.max_steps=soon",), r"trainer\.max_steps=soon is wrong: it must be an integer"),
        (("+trainer.max_step=5",), "max_step"),
        (("model.dropout=1",), r"model\.dropout must be below 1"),
        (("trainer.precision=fp8",), r"trainer\.precision=fp8 is unknown: use fp32 or bf16"),
        (("trainer.average=3",), r"trainer\.keep=2"),
        (("init.apply_to=[attentoin]",), r"init\.apply_to=attentoin names no weights"),
        (("data.vocab_size=4000",), r"data\.vocab_size=4000 is more than the training data"),
        (("schedule.warmup=0",), r"schedule\.warmup must be >= 1, got 0"),
        (("schedule.name=cosine",), r"schedule\.name=cosine is unknown: use inverse_sqrt,"),
        (("seed=-1",), "seed must be >= 0"),
        (("seed=1180591620717411303424",), "seed must be below 9223372036854775808, got 11805916"),
        (("init.scheme=he",), r"init\.scheme=he is unknown: use xavier_uniform, uniform"),
        (("init.mean=nan",), r"init\.mean=nan is wrong: it must be a finite number"),
        (("schedule.lr=inf",), r"schedule\.lr=inf is wrong: it must be a finite number"),
        (("norm.eps=nan",), r"norm\.eps=nan is wrong: it must be a finite number"),
        (("norm.eps=abc",), r"norm\.eps=abc is wrong: it must be a number"),
        (("optimizer.betas=[2,2]",), r"optimizer\.betas must be below 1, got 2"),
        (("optimizer.betas=[0.9]",), r"optimizer\.betas"),
        (("optimizer.eps=-1",), r"optimizer\.eps must be >= 1e-38, got -1"),
        (("optimizer.eps=0",), r"optimizer\.eps must be >= 1e-38, got 0"),
        (("norm.eps=0",), r"norm\.eps must be >= 1e-38, got 0"),
        (("init.mean=1e300",), r"init\.mean must be <= 1e\+38, got 1e\+300"),
        (("init.apply_to=3",), r"init\.apply_to=3 is wrong: it must be a list"),
        (
            ("model.d_model=2147483646",),
            r"too (many|large) for .* memory.*: lower the sizes in model",
        ),
        (("model.encoder_layers=1000000",), r"model\.encoder_layers must be <= 1000"),
        (
            ("trainer.max_steps=true",),
            r"trainer\.max_steps=True is wrong: it must be a number, not",
        ),
        (("schedule.name=[a]",), r"schedule\.name=.* is unknown"),
        (("names.experiment=no",), r"names\.experiment=.no.: there is no experiment no"),
        (("decoding.beam=' '",), r"decoding\.beam=' ' is wrong"),
        (("trainer.threads=100000",), r"trainer\.threads=100000 is more than \d+, 8 per core"),
        (("data.train=0",), r"data\.train=0 sentence pairs are too few"),
        (("data.max_length=1",), r"data\.max_length=1 leaves no room"),
        (("data.batch_tokens=0",), r"data\.batch_tokens must be >= 1, got 0"),
        (("+data.batch_token=7",), r"data\.batch_token is no key of the config"),
        (("decoding.beam=0",), r"decoding\.beam must be >= 1, got 0"),
        (("decoding.length_penalty=nan",), r"decoding\.length_penalty=nan is wrong"),
        (("task.label_smoothing=1",), r"task\.label_smoothing must be below 1, got 1"),
        (TEXT, r"data\.dir=/nowhere is not a directory"),
        ((*TEXT, "data.test=[]"), r"data\.test=\[\] names no test set: give at least one"),
        ((*TEXT, "data.test=[../x/test]"), r"data\.test=\.\./x/test must be a plain name"),
        ((*TEXT, "data.test=[a,a]"), r"data\.test=a,a names a test set twice"),
        (("norm._target_=os.getcwdb2",), r"norm\._target_=os\.getcwdb2 cannot be imported"),
    ],
)
def test_mistakes_are_answered_in_one_sentence(tiny_config, tmp_path, overrides, message):
    config = tiny_config(*overrides)
    with pytest.raises(UserError, match=message) as caught:
        run(config, tmp_path / "r", [])
    assert "\n" not in str(caught.value)
    summary = summary_of(tmp_path / "r")
    assert summary["status"] == "failed" and str(caught.value) in summary["error"]
    assert not (tmp_path / "r" / "checkpoints").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_asked_for_and_absent(tiny_config, tmp_path):
    with pytest.raises(UserError, match="trainer.device=cuda, but torch sees no GPU"):
        run(tiny_config("trainer.device=cuda"), tmp_path / "r", [])


def test_no_run_and_no_checkpoint_are_named(trained, tmp_path):
    with pytest.raises(UserError, match="is no run directory"):
        load_run(tmp_path)
    with pytest.raises(UserError, match=r"there is no checkpoint .*average\.pt"):
        load_run(trained, "average")


def test_a_target_is_imported_from_anywhere_unless_only_known_kinds_are_trusted():
    node = {"_target_": "fractions.Fraction"}
    assert target_of("norm", node)(1, 2) == 0.5
    with pytest.raises(UserError, match=r"norm\._target_=fractions\.Fraction is none of normlab's"):
        target_of("norm", node, trusted=[])
    assert target_of("norm", node, trusted=["fractions.Fraction"])(1, 2) == 0.5


def test_an_average_says_of_how_many_checkpoints_it_is(tiny_config, tmp_path, caplog):
    """Five are asked for; the one at the end of training is all that there is."""
    many = ("trainer.average=5", "trainer.keep=5", "trainer.checkpoint_every=100")
    summary = run(tiny_config(*many), tmp_path / "r", [])
    assert (summary["weights"], summary["averaged"]) == ("average", 1)
    assert "Averaging 1 checkpoints, not 5" in caplog.text


# --- W&B beside a run


@pytest.mark.slow
def test_wandb_that_cannot_start_does_not_end_the_run(tiny_config, tmp_path, monkeypatch, caplog):
    import wandb

    def refuse(**settings):
        raise wandb.errors.CommError("api.wandb.ai cannot be reached")

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setenv("WANDB_MODE", "online")
    summary = run(tiny_config("logger=wandb", "trainer.max_steps=2"), tmp_path / "r", [])
    assert summary["status"] == "completed"
    assert "W&B cannot be used (api.wandb.ai cannot be reached): going on" in caplog.text


@pytest.mark.parametrize("mode", ["nonsense", ""])
def test_a_wandb_mode_that_does_not_exist_does_not_end_the_run(
    tiny_config, tmp_path, monkeypatch, caplog, mode
):
    monkeypatch.setenv("WANDB_MODE", mode)
    summary = run(tiny_config("logger=wandb", "trainer.max_steps=2"), tmp_path / "r", [])
    assert summary["status"] == "completed"
    assert "W&B cannot be used" in caplog.text


def test_a_wandb_folder_that_cannot_be_written_does_not_end_the_run(
    tiny_config, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("WANDB_MODE", "offline")
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "wandb").write_text("in the way")
    summary = run(tiny_config("logger=wandb", "trainer.max_steps=2"), tmp_path / "r", [])
    assert summary["status"] == "completed"
    assert "W&B cannot be used" in caplog.text
