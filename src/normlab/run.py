"""The composition root: from a config to a trained, measured and scored model, and back.

Only train.py, this file, build.py and rundir.py know Hydra. Heavy imports stand inside the
functions that need them, so that a config error is answered in about a second.
"""

import errno
import logging
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from normlab import help, schema
from normlab.build import (
    autocast,
    build_model,
    build_optimizer,
    device_name,
    device_of,
    implementation,
    initialize_model,
    load_data,
    reparameterise,
)
from normlab.errors import UserError
from normlab.rundir import (
    claim,
    code_version,
    finished,
    identity,
    plain,
    record_config,
)
from normlab.training.reporter import Reporter
from normlab.training.tracking import (
    Tracker,
    truncate_metrics,
    wandb_settings,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from normlab.models.protocol import Seq2Seq

log = logging.getLogger(__name__)

INTERRUPTED = 130  # the exit code a shell gives for Ctrl-C


def _help() -> str:
    """Returns the help, with $ doubled because Hydra takes the text as a template."""
    return help.text(Path(sys.argv[0]).parent / "conf").replace("$", "$$")


OmegaConf.register_new_resolver("identity", identity, replace=True)
OmegaConf.register_new_resolver("help", _help, replace=True)


def main(cfg: DictConfig) -> None:
    """Runs one job of train.py; its result is `summary.json` in the run directory.

    A mistake of the user ends a single run with one sentence and exit code 2. In a multirun it is
    raised, so that Hydra marks the job as failed and the others run. Divergence is a result.
    """
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        summary = run(cfg, run_dir, list(HydraConfig.get().overrides.task))
    except UserError as error:
        log.error("%s", error)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            raise
        sys.exit(2)
    if summary["status"] == "interrupted":
        sys.exit(INTERRUPTED)  # also ends a multirun, as Ctrl-C should


def run(cfg: DictConfig, run_dir: Path, overrides: list[str]) -> dict[str, Any]:
    """Trains, evaluates and tests what `cfg` describes in `run_dir`; returns the summary.

    Resumes what stands there, and returns at once when it is complete. On any exception the
    summary says `failed` and the log holds the traceback before it goes on.
    """
    summary_path = run_dir / "summary.json"
    try:
        config = schema.check(cfg)
    except UserError as error:
        if not summary_path.exists():
            write_json(summary_path, {"status": "failed", "error": f"UserError: {error}"})
        raise
    resolved = plain(OmegaConf.structured(config))
    claim(run_dir, resolved)
    if (done := finished(run_dir, resolved)) is not None:
        log.info("This run is complete (%s); delete %s to repeat it.", done["status"], run_dir)
        return done
    record_config(run_dir, resolved, overrides)
    summary = _summary_head(config)
    try:
        _train_and_test(config, resolved, run_dir, summary)
    except BaseException as error:
        summary |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        if isinstance(error, KeyboardInterrupt | SystemExit):  # SystemExit: requeued by submitit
            summary["status"] = "interrupted"
        elif isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(f"no disk space left while writing to {run_dir}: free some.") from error
        elif not isinstance(error, UserError):
            log.exception("The run failed.")
        raise
    finally:
        write_json(summary_path, summary)
    return summary


def _train_and_test(config: schema.Config, resolved: dict, run_dir: Path, summary: dict) -> None:
    import torch

    # Denormals slow a CPU 2.5 times where activations vanish. Before any worker thread starts:
    # threads inherit the setting from the one that makes them.
    torch.set_flush_denormal(True)
    settings = config.trainer
    device = device_of(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(settings.deterministic)
    with torch.device("meta"):  # sizes and norm arguments are checked before any data is read
        on_meta = build_model(config, vocab=8)
    if settings.hidden_stats:
        from normlab.analysis.hidden import check

        check(on_meta)

    from normlab.data.batching import collate, epoch_batches, padding_fraction
    from normlab.training.checkpoint import Checkpoints
    from normlab.training.loop import train
    from normlab.training.schedules import constant, inverse_sqrt

    corpus, prepared = load_data(config)
    prepared.tokenizer.save(str(run_dir / "tokenizer.json"))
    torch.manual_seed(config.seed)
    model = build_model(config, prepared.tokenizer.get_vocab_size())
    initialize_model(model, config)
    model.to(device)
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    summary["norm_impl"] = implementation(model, device)
    summary |= {"device": device_name(device), "torch": torch.__version__}
    log.info(
        "%s: %s parameters, norm %s (%s), on %s.",
        config.names.model, f"{summary['parameters']:,}", config.names.norm,
        summary["norm_impl"], summary["device"],
    )  # fmt: skip
    optimizer = build_optimizer(model, config)
    schedule = {"inverse_sqrt": inverse_sqrt, "constant": constant}[config.schedule.name]
    learning_rate = partial(schedule, lr=config.schedule.lr, warmup=config.schedule.warmup)

    def batches_of(epoch: int):
        indices = epoch_batches(
            prepared.train.src_lengths,
            prepared.train.tgt_lengths,
            batch_tokens=settings.batch_tokens,
            pool=config.data.pool,
            seed=config.seed,
            epoch=epoch,
        )
        if epoch == 0:
            padding = padding_fraction(indices, prepared.train)
            log.info("%d batches an epoch, %.1f %% padding.", len(indices), 100 * padding)
        return [partial(collate, prepared.train, batch) for batch in indices]

    checkpoints = Checkpoints(run_dir / "checkpoints", settings.keep)
    last = checkpoints.load_last()
    truncate_metrics(run_dir / "metrics.jsonl", 0 if last is None else last["progress"]["step"])
    wandb = None
    if config.logger.name == "wandb":
        tags = [*config.logger.tags, config.names.model, config.names.norm, config.names.data]
        wandb = wandb_settings(
            run_dir, resolved | {"norm_impl": summary["norm_impl"]}, tags=tags,
            project=config.logger.project, group=config.logger.group, name=config.names.run,
        )  # fmt: skip
    with Tracker(run_dir, wandb) as tracker, Reporter(settings.max_steps) as report:
        progress = train(
            model, optimizer, learning_rate, batches_of,
            evaluate=partial(_evaluate, model, prepared, corpus, settings, device),
            settings=settings, tracker=tracker, checkpoints=checkpoints, device=device,
            on_metrics=report,
        )  # fmt: skip
        timed = progress.timed_seconds
        summary |= {
            "status": progress.status,
            "steps": progress.step,
            "epochs": progress.epoch,
            "training_seconds": progress.seconds,
            "best_dev_bleu": progress.best_bleu,
            "best_step": progress.best_step,
            "seconds_per_1k_steps": 1000 * timed / progress.timed_steps if timed else None,
            "tokens_per_second": progress.timed_tokens / timed if timed else None,
        }
        if progress.status == "completed":
            summary["test"] = _test(model, prepared, corpus, config, run_dir, device, checkpoints)
        elif progress.status == "diverged":
            log.warning("Diverged: first non-finite value at step %d.", progress.diverged_at)
            failed = {"bleu": 0.0, "chrf": 0.0, "signature": None}
            summary |= {
                "diverged_at": progress.diverged_at,
                "best_dev_bleu": 0.0,
                "test": {
                    name: {**failed, "sentences": len(bitext.src)}
                    for name, bitext in corpus.test.items()
                },
            }
        if tests := summary.get("test"):
            metrics = {f"test/{name}/bleu": scores["bleu"] for name, scores in tests.items()}
            metrics["test/bleu"] = next(iter(tests.values()))["bleu"]
            tracker.log(progress.step, progress.seconds, metrics)
        tracker.finish(summary)
    log.info(
        "%s after %d steps: best dev BLEU %s, test BLEU %s, %s s per 1k steps; all in %s.",
        progress.status, progress.step, _rounded(summary["best_dev_bleu"]),
        ", ".join(_rounded(scores["bleu"]) for scores in summary.get("test", {}).values()) or "-",
        _rounded(summary["seconds_per_1k_steps"]), run_dir,
    )  # fmt: skip


def _evaluate(model, prepared, corpus, settings: schema.Trainer, device) -> dict[str, float]:
    """Returns the dev metrics; the random generators are not touched."""
    from normlab.scoring import score
    from normlab.translation import mean_loss, translate

    was_training = model.training
    with autocast(settings, device):
        loss, nll = mean_loss(
            model, prepared.dev, smoothing=settings.label_smoothing,
            batch_tokens=settings.batch_tokens, device=device,
        )  # fmt: skip
        hypotheses = translate(
            model, prepared.tokenizer, prepared.dev, beam=settings.eval_beam,
            length_penalty=settings.length_penalty, batch_tokens=settings.batch_tokens,
            device=device,
        )  # fmt: skip
        hidden = {}
        if settings.hidden_stats:
            from normlab.analysis.hidden import hidden_statistics

            hidden = hidden_statistics(
                model, prepared.dev, batch_tokens=settings.batch_tokens, device=device
            )
    model.train(was_training)
    scores = score(hypotheses, corpus.dev.tgt)
    return {
        "dev/loss": loss, "dev/nll": nll, "dev/bleu": scores["bleu"], "dev/chrf": scores["chrf"],
        **hidden,
    }  # fmt: skip


def _test(model, prepared, corpus, config: schema.Config, run_dir: Path, device, checkpoints):
    """Returns every test set's scores with the averaged or the best weights; stores outputs."""
    from normlab.scoring import score
    from normlab.training.checkpoint import load as load_checkpoint
    from normlab.translation import translate

    settings = config.trainer
    if settings.average:
        weights = checkpoints.average(settings.average)
        checkpoints.save_weights("average", weights, count=settings.average)
    else:
        weights = load_checkpoint(checkpoints.folder / "best.pt")["model"]
    model.load_state_dict(weights)
    results = {}
    for name, bitext in corpus.test.items():
        started = time.perf_counter()
        with autocast(settings, device):
            hypotheses = translate(
                model, prepared.tokenizer, prepared.test[name], beam=settings.test_beam,
                length_penalty=settings.length_penalty, batch_tokens=settings.batch_tokens,
                device=device,
            )  # fmt: skip
        seconds = time.perf_counter() - started
        hypotheses = [one_line(text) for text in hypotheses]
        results[name] = {**score(hypotheses, bitext.tgt), "seconds": seconds}
        for kind, lines in (("hypotheses", hypotheses), ("references", bitext.tgt)):
            write_text(run_dir / kind / f"{name}.txt", "".join(line + "\n" for line in lines))
        log.info("%s: BLEU %.2f, chrF %.2f", name, results[name]["bleu"], results[name]["chrf"])
    return results


def one_line(text: str) -> str:
    """Returns `text` with line ends as spaces: outputs are stored one sentence a line."""
    return text.replace("\r", " ").replace("\n", " ")


@dataclass
class Run:
    """A finished run, loaded: its model in evaluation mode, its tokenizer and its config."""

    model: "Seq2Seq"
    tokenizer: "Tokenizer"
    config: schema.Config
    device: "torch.device"

    def translate(self, sentences: list[str], *, beam: int | None = None) -> list[str]:
        """Returns a translation of each sentence, in order, as the run's own test was decoded."""
        from normlab.data.prepare import encode_bitext, truncate
        from normlab.translation import translate

        settings = self.config.trainer
        data, cut = truncate(
            encode_bitext(self.tokenizer, sentences, [""] * len(sentences)),
            self.config.data.max_len,
        )
        if cut:
            log.warning("%d sentences were cut to %d subwords.", cut, self.config.data.max_len)
        with autocast(settings, self.device):
            return translate(
                self.model, self.tokenizer, data, beam=beam or settings.test_beam,
                length_penalty=settings.length_penalty, batch_tokens=settings.batch_tokens,
                device=self.device,
            )  # fmt: skip

    def hidden_statistics(self) -> dict[str, float]:
        """Returns Table 5's statistics on the run's dev set, keys as in metrics.jsonl."""
        from normlab.analysis.hidden import check, hidden_statistics

        check(self.model)
        _, prepared = load_data(self.config)
        settings = self.config.trainer
        with autocast(settings, self.device):
            return hidden_statistics(
                self.model, prepared.dev, batch_tokens=settings.batch_tokens, device=self.device
            )


def load(run_dir: Path | str, checkpoint: str = "best", device: str = "auto") -> Run:
    """Returns the run in `run_dir` with the weights of `checkpoints/<checkpoint>.pt`.

    Raises UserError when the directory holds no run or the checkpoint is missing or damaged.
    """
    from normlab.data.tokenizer import load_tokenizer
    from normlab.training.checkpoint import load as load_checkpoint

    run_dir = Path(run_dir)
    path = run_dir / ".hydra" / "config.yaml"
    if not path.exists():
        raise UserError(f"{run_dir} is no run directory: {path} does not exist.")
    config = schema.check(OmegaConf.create(plain(OmegaConf.load(path))))
    where = device_of(device)
    tokenizer = load_tokenizer(run_dir / "tokenizer.json")
    model = build_model(config, tokenizer.get_vocab_size())
    reparameterise(model)
    model.load_state_dict(load_checkpoint(run_dir / "checkpoints" / f"{checkpoint}.pt")["model"])
    return Run(model.to(where).eval(), tokenizer, config, where)


def _summary_head(config: schema.Config) -> dict[str, Any]:
    return {
        "status": "failed",
        "norm": config.names.norm,
        "norm_impl": None,
        "init_mean": config.init.mean,
        "model": config.names.model,
        "data": config.names.data,
        "seed": config.seed,
        "precision": config.trainer.precision,
        "compile": config.trainer.compile,
        "steps": 0,
        "commit": code_version(),
    }


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
