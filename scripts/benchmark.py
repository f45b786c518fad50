"""Times norms, training steps or decoding side by side; writes a table to results/benchmarks/.

    scripts/benchmark.py norms
    scripts/benchmark.py steps --model rnnsearch_small data=text data.dir=DIR
    scripts/benchmark.py profile --model transformer_tiny norm=rmsnorm
    scripts/benchmark.py decode RUN_DIR RUN_DIR ...
    scripts/benchmark.py joeynmt --python JOEYNMT_ENV/bin/python data=text data.dir=DIR

Further arguments of `steps`, `profile` and `joeynmt` are overrides of train.py.
"""

import argparse
import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.reports.benchmarks import write_pages
from normlab.reports.experiments import read_experiment

RAW = Path("runs/benchmarks")
SHAPES_CPU = ["64x384", "2048x128", "4096x256", "4096x512"]
SHAPES_GPU = ["4096x128", "4096x512", "65536x512", "65536x1024"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    common.add_argument("--blocks", type=int, default=60, help="how often each variant is timed")
    common.add_argument("--threads", type=int, help="CPU threads; torch's default otherwise")
    common.add_argument("--compile", action="store_true", help="compiled variants too (slow start)")
    common.add_argument("--name", help="of the files; by default from the kind of benchmark")
    common.add_argument("--results", type=Path, default=Path("results"))
    kinds = parser.add_subparsers(dest="kind", required=True)
    norms = kinds.add_parser("norms", parents=[common], help="the norms by themselves")
    norms.add_argument("--shapes", nargs="+", help="ROWSxWIDTH ...")
    norms.add_argument("--dtypes", nargs="+", default=["float32"], help="float32, bfloat16, ...")
    norms.add_argument("--warm", action="store_true", help="call each once more just before")
    steps = kinds.add_parser("steps", parents=[common], help="training steps")
    steps.add_argument("--model", default="transformer_tiny", help="an option of conf/model")
    steps.add_argument("--batches", type=int, default=8, help="different batches to cycle through")
    profile = kinds.add_parser(
        "profile", parents=[common], help="where a training step's time goes"
    )
    profile.add_argument("--model", default="transformer_tiny", help="an option of conf/model")
    profile.add_argument("--batches", type=int, default=8, help="steps that are profiled")
    decode = kinds.add_parser("decode", parents=[common], help="translation of a test set")
    decode.add_argument("run_dirs", nargs="+", help="finished runs, compared with each other")
    decode.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    decode.add_argument("--sentences", type=int, default=1000)
    joeynmt = kinds.add_parser("joeynmt", parents=[common], help="training and decoding: JoeyNMT's")
    joeynmt.add_argument("--python", type=Path, required=True, help="of JoeyNMT's environment")
    joeynmt.add_argument("--steps", type=int, default=1000, help="trained before loss and decoding")
    joeynmt.add_argument("--rounds", type=int, default=5, help="starts of each system")
    args, overrides = parser.parse_known_args()
    if overrides and args.kind not in ("steps", "profile", "joeynmt"):
        parser.error(f"unknown argument {overrides[0]}")
    runners = {
        "norms": run_norms, "steps": run_steps, "profile": run_profile, "decode": run_decode,
        "joeynmt": run_joeynmt,
    }  # fmt: skip
    try:
        result = runners[args.kind](args, overrides)
        RAW.mkdir(parents=True, exist_ok=True)
        name = args.name or result.pop("name")
        result.pop("name", None)
        (RAW / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except UserError as error:
        sys.exit(str(error))
    write_pages(RAW, args.results)
    print((args.results / "benchmarks" / f"{name}.md").read_text(encoding="utf-8"))


def start(args: argparse.Namespace) -> Any:
    """Returns the device, set up as a training run does."""
    import torch

    from normlab.build import device_of

    torch.set_flush_denormal(True)
    if args.threads:
        torch.set_num_threads(args.threads)
    return device_of(args.device)


def result_of(name: str, title: str, device: Any, records: list, notes: list[str]) -> dict:
    from normlab.benchmarks.timing import environment
    from normlab.rundir import code_version

    return {
        "name": name if device.type == "cpu" else f"{name}_gpu",
        "title": title,
        "command": shlex.join(["python", *sys.argv]),
        "commit": code_version() or "unknown",
        "environment": environment(device),
        "notes": notes,
        "records": records,
    }


def run_norms(args: argparse.Namespace, _: list[str]) -> dict:
    import torch

    from normlab.benchmarks.norms import norm_times

    device = start(args)
    records = []
    for shape in args.shapes or (SHAPES_GPU if device.type == "cuda" else SHAPES_CPU):
        rows, width = map(int, shape.split("x"))
        for dtype in args.dtypes:
            records += norm_times(
                rows, width, getattr(torch, dtype), device, blocks=args.blocks,
                compiled=args.compile, cold=not args.warm,
            )  # fmt: skip
    caches = "filled by an untimed call of the same" if args.warm else "emptied before each call"
    notes = [
        f"Caches {caches}. Times include autograd's; `both` is forward and backward.",
        "`native` is torch's own operator: F.layer_norm, F.rms_norm. Bandwidth counts each tensor",
        "of [rows, width] once: x and y forward, x, dy and dx backward.",
    ]
    name = "norms_warm" if args.warm else "norms"
    return result_of(name, "Norms by themselves", device, records, notes)


def run_steps(args: argparse.Namespace, overrides: list[str]) -> dict:
    from normlab.benchmarks.steps import step_times, variants

    device = start(args)
    chosen = variants(args.compile, recurrent="rnn" in args.model)
    steps, batches, settings = make_steps(args, overrides, chosen, device)
    title = f"{args.model}, {settings.precision}"
    record = step_times(title, steps, batches, args.blocks, device)
    table = "table3" if "rnn" in args.model else "table4"
    record["paper"] = {
        row["norm"]: float(row["seconds_per_1k_steps"])
        for row in read_experiment(table, Path("experiments")).paper
    }
    name = f"steps_{args.model}_{settings.precision}" + "_compiled" * args.compile
    notes = [
        "A step is the trainer's: forward, backward, clipping, optimiser; the share in norms is",
        "1 - none : variant, of one kind. `fused` is our kernel for the norm, `fused step` also",
        f"holds the rest of a GRU step. The paper's seconds are those of its {table}.",
    ]
    return result_of(name, f"Training steps of {args.model}", device, [record], notes)


def run_profile(args: argparse.Namespace, overrides: list[str]) -> dict:
    from torch.profiler import ProfilerActivity, profile

    from normlab.benchmarks.steps import Variant

    device = start(args)
    steps, _, settings = make_steps(args, overrides, {"": Variant([], one_kernel=True)}, device)
    for _ in range(3):
        steps[""]()
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device.type == "cuda")
    with profile(activities=activities) as profiler:
        for _ in range(args.batches):
            steps[""]()
    sort = "self_cuda_time_total" if device.type == "cuda" else "self_cpu_time_total"
    text = profiler.key_averages().table(sort_by=sort, row_limit=25, max_name_column_width=50)
    notes = [f"{args.batches} steps, by the operators' own time.", "", "```", text, "```"]
    title = f"Profile of {args.model}, {settings.precision}"
    name = f"profile_{args.model}_{settings.precision}"
    return result_of(name, title, device, [], notes)


def make_steps(
    args: argparse.Namespace, overrides: list[str], variants: dict[str, Any], device: Any
) -> tuple[dict[str, Any], list[Any], Any]:
    """Returns a training step for each variant that is valid here, the batches, the settings."""
    import torch

    import normlab.run  # noqa: F401 - registers the resolvers of the config
    from normlab import build, schema
    from normlab.benchmarks.steps import Steps, choose_step
    from normlab.data.batching import collate, epoch_batches
    from normlab.rundir import compose_job

    prepared: Any = None
    steps: dict[str, Any] = {}
    batches: list[Any] = []
    for name, chosen in variants.items():
        arguments = [f"model={args.model}", "logger=none", *overrides, *chosen.overrides]
        config = schema.check(compose_job(Path("conf"), arguments))
        if prepared is None:
            _, prepared = build.load_data(config)
            order = epoch_batches(
                prepared.train.src_lengths, prepared.train.tgt_lengths,
                batch_tokens=config.trainer.batch_tokens, pool=config.data.pool, seed=1, epoch=0,
            )  # fmt: skip
            batches = [collate(prepared.train, b).to(device) for b in order[: args.batches]]
        torch.manual_seed(1)
        model = build.build_model(config, prepared.tokenizer.get_vocab_size())
        build.initialize_model(model, config)
        choose_step(model, chosen.one_kernel)
        try:
            build.implementation(model.to(device), device)
        except UserError:  # no fused kernels here
            continue
        optimizer = build.build_optimizer(model, config)
        steps[name] = Steps(model, optimizer, config.trainer, batches, device)
    return steps, batches, config.trainer


def run_decode(args: argparse.Namespace, overrides: list[str]) -> dict:
    from normlab import run
    from normlab.benchmarks.timing import CONTROL, interleave
    from normlab.build import load_data

    device = start(args)
    records = []
    runs = {Path(folder).name: run.load(folder, device=args.device) for folder in args.run_dirs}
    corpus, _ = load_data(next(iter(runs.values())).config)
    sentences = list(next(iter(corpus.test.values())).src[: args.sentences])
    for beam in args.beams:
        variants: dict[str, Any] = {
            name: partial(loaded.translate, sentences, beam=beam) for name, loaded in runs.items()
        }
        variants[CONTROL] = variants[next(iter(runs))]
        times = interleave(variants, args.blocks, device, warmup=1)
        records.append(
            {
                "title": f"beam {beam}, {len(sentences)} sentences",
                "baseline": next(iter(runs)),
                "work": {"count": len(sentences), "of": "sentences"},
                "times": times,
            }
        )
    return result_of("decode", "Translation of a test set", device, records, [])


def run_joeynmt(args: argparse.Namespace, overrides: list[str]) -> dict:
    import normlab.run
    from normlab import build, schema
    from normlab.benchmarks import joeynmt
    from normlab.rundir import compose_job
    from normlab.scoring import score

    device = start(args)
    config = schema.check(compose_job(Path("conf"), overrides))
    corpus, prepared = build.load_data(config)
    folder = RAW / "joeynmt"
    joey = joeynmt.JoeyNMT(args.python.absolute(), folder / "joeynmt", config, prepared)
    ours = joeynmt.Normlab(folder, overrides)
    work = {"count": 1000, "of": "target tokens"}
    times = joeynmt.training_times(joey, ours, args.rounds)
    title = "training, per 1,000 target tokens"
    records = [{"title": title, "baseline": joeynmt.BASELINE, "work": work, "times": times}]

    losses = {joeynmt.BASELINE: joey.train("trained", args.steps, 50)[1][-1]}
    for name, precision in joeynmt.OURS.items():
        run_name = f"{precision}_trained"
        losses[name] = ours.train(run_name, precision, args.steps, 50)[1][-1]
    (test_name, test), *_ = corpus.test.items()
    loaded = normlab.run.load(folder / "fp32_trained", device=args.device)
    times = {joeynmt.BASELINE: [], "normlab, fp32": []}
    bleu = {}
    for _ in range(args.rounds):
        seconds, outputs = joey.translate("trained", beam=5)
        times[joeynmt.BASELINE].append(seconds)
        bleu[joeynmt.BASELINE] = score(outputs, test.tgt)["bleu"]
        started = time.perf_counter()
        outputs = loaded.translate(list(test.src), beam=5)
        times["normlab, fp32"].append(time.perf_counter() - started)
        bleu["normlab, fp32"] = score(outputs, test.tgt)["bleu"]
    title = f"beam 5, {test_name}"
    work = {"count": len(test.src), "of": "sentences"}
    records.append({"title": title, "baseline": joeynmt.BASELINE, "work": work, "times": times})
    method = [
        "Every variant a process of its own, started once a round in random order; the steps up to",
        "the first log line left out; ratios within a round, 95 % bootstrap interval over rounds.",
    ]
    notes = [
        "The same Transformer, optimiser, batch limit and subwords. Dev NLL a token after",
        f"{args.steps} steps: {', '.join(f'{name} {loss:.2f}' for name, loss in losses.items())};",
        f"BLEU of {test_name}: {', '.join(f'{name} {found:.1f}' for name, found in bleu.items())}.",
    ]
    result = result_of("joeynmt", "normlab and JoeyNMT 2.3", device, records, notes)
    return {**result, "method": method}


if __name__ == "__main__":
    main()
