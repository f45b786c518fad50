"""Times norms, training steps or decoding side by side; writes a table to results/benchmarks/.

    scripts/benchmark.py norms [--threads 1 --busy]
    scripts/benchmark.py steps --model rnnsearch_small data=text data.dir=DIR
    scripts/benchmark.py widths data.batch_tokens=512
    scripts/benchmark.py profile --model transformer_tiny norm=rmsnorm
    scripts/benchmark.py scaling --model transformer_tiny --processes 1 2
    scripts/benchmark.py decode RUN_DIR RUN_DIR ...
    scripts/benchmark.py conversion RUN_DIR data=text data.dir=DIR
    scripts/benchmark.py joeynmt --python JOEYNMT_ENV/bin/python data=text data.dir=DIR
    scripts/benchmark.py eole --python EOLE_ENV/bin/python data=text data.dir=DIR

Further arguments of all but `norms` and `decode` are overrides of train.py.
"""

import argparse
import json
import os
import re
import shlex
import signal
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

from normlab.errors import UserError
from normlab.paths import CONF
from normlab.reports.benchmarks import merge, write_pages

RAW = Path("runs/benchmarks")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    common.add_argument("--threads", type=int, help="CPU threads; torch's default otherwise")
    common.add_argument("--name", help="of the files; ..._repeat: the same once more")
    common.add_argument("--results", type=Path, default=Path("results"))
    timed = argparse.ArgumentParser(add_help=False, parents=[common])
    timed.add_argument("--blocks", type=int, default=60, help="how often each variant is timed")
    repeated = argparse.ArgumentParser(add_help=False, parents=[timed])
    repeated.add_argument("--busy", action="store_true", help="while another process copies memory")
    repeated.add_argument("--starts", type=int, default=1, help="processes, one after another")
    kinds = parser.add_subparsers(dest="kind", required=True)
    norms = kinds.add_parser("norms", parents=[repeated], help="the norms by themselves")
    norms.add_argument("--shapes", nargs="+", help="ROWSxWIDTH ...")
    norms.add_argument(
        "--dtypes", nargs="+", default=["float32"], choices=("float32", "bfloat16", "float16")
    )
    norms.add_argument("--warm", action="store_true", help="call each once more just before")
    steps = kinds.add_parser("steps", parents=[repeated], help="training steps")
    steps.add_argument("--model", default="transformer_tiny", help="an option of conf/model")
    steps.add_argument("--batches", type=int, default=8, help="different batches to cycle through")
    steps.add_argument("--every-norm", action="store_true", help="all of conf/norm, norm.impl=auto")
    for each in (norms, steps):
        each.add_argument("--compile", action="store_true", help="compiled variants too (slow)")
    profile = kinds.add_parser(
        "profile", parents=[common], help="where a training step's time goes"
    )
    profile.add_argument("--model", default="transformer_tiny", help="an option of conf/model")
    profile.add_argument("--batches", type=int, default=8, help="steps that are profiled")
    scaling = kinds.add_parser("scaling", parents=[timed], help="one run on several processes")
    scaling.add_argument("--model", default="transformer_tiny", help="an option of conf/model")
    scaling.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    scaling.add_argument("--starts", type=int, default=5, help="of each number of processes")
    widths = kinds.add_parser("widths", parents=[repeated], help="training steps by width")
    widths.add_argument("--widths", nargs="+", type=int, help="d_model; default: 128 to 1,024")
    decode = kinds.add_parser("decode", parents=[repeated], help="translation of a test set")
    decode.add_argument("run_dirs", nargs="+", help="finished runs, compared with each other")
    decode.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    decode.add_argument("--sentences", type=int, default=1000)
    conversion = kinds.add_parser(
        "conversion", parents=[repeated], help="LayerNorm and what it is converted to"
    )
    conversion.add_argument("run_dir", type=Path, help="a pre-norm LayerNorm run of train.py")
    conversion.add_argument("--beams", nargs="+", type=int, default=[1, 5])
    for name, toolkit in (("joeynmt", "JoeyNMT"), ("eole", "eole")):
        peer = kinds.add_parser(name, parents=[common], help=f"training and decoding: {toolkit}'s")
        peer.add_argument("--python", type=Path, required=True, help="of its environment")
        peer.add_argument("--steps", type=int, default=1000, help="before loss and decoding")
        peer.add_argument("--rounds", type=int, default=5, help="starts of each system")
    args, overrides = parser.parse_known_args()
    plain = args.kind in ("norms", "decode")
    if wrong := [each for each in overrides if plain or not re.match(r"~|[^-].*=", each)]:
        parser.error(f"unknown argument {wrong[0]}")
    if getattr(args, "starts", 1) < 1:
        parser.error(f"--starts must be >= 1, got {args.starts}")
    if getattr(args, "every_norm", False) and args.compile:
        parser.error("--every-norm times norm.impl=auto: leave out --compile")
    signal.signal(signal.SIGTERM, stop)
    try:
        found_by = busy if getattr(args, "busy", False) else in_processes
        result = found_by(args, overrides)
        RAW.mkdir(parents=True, exist_ok=True)
        name = args.name or result.pop("name")
        result.pop("name", None)
        (RAW / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    except UserError as error:
        sys.exit(str(error))
    write_pages(RAW, args.results)
    print((args.results / "benchmarks" / f"{name}.md").read_text(encoding="utf-8"))


def stop(number: int, _: Any) -> None:
    """Ends this process by signal `number`, and first those that would slow what is timed next."""
    for child in active_children():
        child.kill()
    sys.exit(128 + number)  # subprocess.run kills what it runs on the way, but not children of that


def busy(args: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """Returns what the benchmark finds beside a process that takes memory's bandwidth, and a core.

    Raises UserError when no core is left for that process.
    """
    from normlab.benchmarks.timing import copying_memory

    cores = os.cpu_count() or 1
    if args.threads is None or args.threads >= cores:
        raise UserError(f"--busy needs a core of its own: --threads below the {cores} there are.")
    with copying_memory():
        found = in_processes(args, overrides)
    note = "Meanwhile a process on a core of its own copied memory without a pause."
    return {**found, "name": f"{found['name']}_busy", "notes": [*found["notes"], note]}


def in_processes(args: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """Returns what the benchmark finds in --starts processes of its own, or here when in one."""
    if args.kind == "scaling" or getattr(args, "starts", 1) == 1:
        return measure(args, overrides)
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return merge(pool.submit(measure, args, overrides).result() for _ in range(args.starts))


def measure(args: argparse.Namespace, overrides: list[str]) -> dict[str, Any]:
    """Returns what the chosen benchmark found, with where and how it was measured."""
    from normlab.benchmarks import (
        conversion,
        decoding,
        eole,
        joeynmt,
        norms,
        peers,
        profiling,
        scaling,
        steps,
        widths,
    )
    from normlab.benchmarks.timing import environment
    from normlab.runs.environment import code_version, device_of, prepare, set_threads

    commit = code_version() or "unknown"  # before it can change
    prepare()
    set_threads(args.threads)
    device = device_of(args.device)
    overrides = [f"model={args.model}", *overrides] if "model" in args else overrides
    match args.kind:
        case "norms":
            found = norms.benchmark(
                args.shapes,
                args.dtypes,
                device,
                blocks=args.blocks,
                compiled=args.compile,
                cold=not args.warm,
            )
        case "steps":
            chosen = steps.every_norm() if args.every_norm else args.compile
            work = steps.workload(CONF, overrides, chosen, args.batches, device)
            found = steps.benchmark(work, overrides, args.blocks, device)
            found["name"] += "_every_norm" * args.every_norm
        case "widths":
            found = widths.benchmark(
                CONF, overrides, args.widths or widths.WIDTHS, args.blocks, device
            )
        case "profile":
            alone = {"": steps.Variant([], one_kernel=True)}
            work = steps.workload(CONF, overrides, alone, args.batches, device)
            found = profiling.benchmark(work, overrides, device)
        case "scaling":
            threads = args.threads or 1
            found = scaling.benchmark(
                CONF, overrides, args.model, args.processes, args.starts, args.blocks,
                args.device, threads,
            )  # fmt: skip
        case "decode":
            found = decoding.benchmark(
                args.run_dirs, args.beams, args.sentences, args.blocks, device
            )
        case "conversion":
            found = conversion.benchmark(
                CONF, overrides, args.run_dir, args.beams, args.blocks, device
            )
        case _:
            if device.type != "cpu":
                raise UserError(f"{args.kind} is measured on a CPU only: give --device cpu.")
            config, task = peers.workload(CONF, overrides)
            folder = (RAW / args.kind).absolute()
            toolkit = joeynmt.JoeyNMT if args.kind == "joeynmt" else eole.Eole
            peer = toolkit(args.python.absolute(), folder, config, task.encoded)
            ours = peers.Normlab(folder / "normlab", overrides)
            found = peers.benchmark(peer, ours, task, args.rounds, args.steps)
    return {
        **found,
        "name": found["name"] + ("" if device.type == "cpu" else "_gpu"),
        "command": shlex.join(["python", *sys.argv]),
        "commit": commit,
        "environment": environment(device),
    }


if __name__ == "__main__":
    main()
