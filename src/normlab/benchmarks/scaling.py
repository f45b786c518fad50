"""One run on several processes: what a step costs, and how much of it is the exchange of gradients.

Every measurement is a start of N processes of its own, which train on their shares of the same
global batches, once with gradients exchanged (DistributedDataParallel) and once without, a step of
each in random order.
"""

import json
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from normlab import distributed, markdown
from normlab.benchmarks.steps import Variant, build_steps
from normlab.benchmarks.timing import interleave
from normlab.errors import UserError
from normlab.ranks import place
from normlab.reports.benchmarks import seconds
from normlab.runs import components
from normlab.runs.assemble import check_parts
from normlab.runs.config import parse_config
from normlab.runs.environment import device_of, prepare, set_threads
from normlab.runs.sweeps import compose_job

BATCHES = 8  # different ones to cycle through


def benchmark(
    conf: Path,
    overrides: Sequence[str],
    model: str,
    processes: Sequence[int],
    starts: int,
    blocks: int,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """Returns the record of steps of `model` on each number of `processes`, each started anew.

    Raises UserError for a mistake in the config, and when the processes fail.
    """
    check_parts(parse_config(compose_job(conf, [*overrides, "logger=none"])))
    found: dict[int, list[dict[str, float]]] = {count: [] for count in processes}
    for _ in range(starts):
        for count in processes:
            found[count].append(_start(conf, overrides, count, blocks, device, threads))
    return {
        "name": f"scaling_{model}",
        "title": f"Steps of {model} on several processes",
        "records": [],
        "method": [f"{starts} starts in turn, {blocks} steps each, {threads} CPU thread(s) each."],
        "notes": [
            "One global batch whatever their number. Efficiency is the time on one process over N",
            "times that on N; the exchange is the part of a step that goes when each process keeps",
            "its gradients to itself. Medians over starts, with the smallest and the largest.",
            "",
            *_table(found),
        ],
        "measured": found,
    }


def _start(
    conf: Path, overrides: Sequence[str], count: int, blocks: int, device: str, threads: int
) -> dict[str, float]:
    """Returns what `count` processes measured: seconds of a step with and without the exchange."""
    work = {
        "conf": str(conf), "overrides": list(overrides),
        "blocks": blocks, "device": device, "threads": threads,
        "seed": random.getrandbits(32),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}",
        "-m", "normlab.benchmarks.scaling", json.dumps(work),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{count} processes failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])


def _table(found: dict[int, list[dict[str, float]]]) -> list[str]:
    rows = []
    for count, starts in found.items():
        steps = np.array([start["step"] for start in starts])
        exchange = 1 - np.array([start["alone"] for start in starts]) / steps
        row = [str(count), _spread(1000 * steps, "{:.1f}")]
        row.append(f"{statistics.median(s['items'] for s in starts) / np.median(steps):,.0f}")
        if 1 in found:
            single = np.array([start["step"] for start in found[1]])
            row.append(_spread(single / (count * steps), "{:.2f}"))
        else:
            row.append("-")
        row.append(_spread(100 * exchange, "{:.0f} %") if count > 1 else "-")
        rows.append(row)
    return markdown.table(["processes", "ms a step", "items/s", "efficiency", "exchange"], rows)


def _spread(values: np.ndarray, form: str) -> str:
    median, low, high = (form.format(f(values)) for f in (np.median, np.min, np.max))
    return f"{median} ({low} to {high})"


def _measure(work: dict[str, Any]) -> dict[str, float]:
    """Returns this process's seconds of a step with and without the exchange."""
    prepare()
    set_threads(work["threads"])
    here = place()
    with distributed.joined(here, work["device"]):
        device = device_of(work["device"])
        conf, overrides = Path(work["conf"]), [*work["overrides"], "logger=none"]
        task = components.build_task(parse_config(compose_job(conf, overrides)))
        makers = task.batches(0, rank=here.rank, world_size=here.world_size)[:BATCHES]
        batches = [make().to(device) for make in makers]
        variant = Variant([], one_kernel=True)
        steps = {
            name: build_steps(conf, overrides, variant, task, batches, device)
            for name in ("step", "alone")
        }
        if here.world_size > 1:
            steps["step"].objective = distributed.replicated(steps["step"].objective)
        # All processes in one order: a step with the exchange waits for its like in the others.
        shuffle = random.Random(work["seed"]).shuffle
        blocks = work["blocks"]
        times = interleave(
            dict(steps),
            blocks,
            device,
            warmup=len(batches),
            shuffle=shuffle,
            # Else a step would wait for what another process still does alone.
            before=lambda _: distributed.gather(None),
        )
        items = sum(batch.items for batch in batches) / len(batches)
        record = {"times": times, "batches": len(batches)}
        return {**{name: seconds(record, name) for name in times}, "items": items}


if __name__ == "__main__":
    measured = _measure(json.loads(sys.argv[1]))
    if place().rank == 0:
        print(json.dumps(measured))
