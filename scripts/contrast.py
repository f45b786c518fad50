"""The question in four short runs: LayerNorm and RMSNorm, initial mean 0 and 0.2.

Prints a table and draws the curves to runs/contrast/contrast.png. Starting it again repeats nothing
that is finished. One run of each norm and mean shows the contrast and proves nothing: for that see
results/README.md. Further arguments are overrides of train.py.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from normlab.errors import UserError
from normlab.paths import CONF
from normlab.reports.figures import Panel, draw_curves, write_figure
from normlab.reports.records import RunRecord, read_record
from normlab.runs.sweeps import sweep_directories

FOLDER = Path("runs/contrast")
# Small batches, short warm-up, few sentences to translate: LayerNorm at mean 0.2 has then left the
# level of guessing far behind, in about two minutes of one core.
STEPS = 700
SWEEP = [
    "norm=layernorm,rmsnorm",
    "init.mean=0,0.2",
    f"trainer.max_steps={STEPS}",
    "trainer.eval_every=50",
    "trainer.checkpoint_every=350",
    "schedule.warmup=200",
    "data.batch_tokens=1024",
    "data.dev=200",
    "data.test=200",
    "decoding.beam=1",
    "logger=none",
]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at once, one core each")
    args, overrides = parser.parse_known_args()
    launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={args.jobs}"]
    sweep = [f"hydra.sweep.dir={FOLDER}", *SWEEP, *overrides]
    command = [sys.executable, "-m", "normlab", "train", "-m", *sweep, *launcher]
    code = subprocess.run(command).returncode
    if code:
        sys.exit(f"a run failed (exit code {code}): its train.log in {FOLDER} says why.")
    try:
        show([read_record(path) for path in sweep_directories(CONF, sweep)])
    except UserError as error:
        sys.exit(str(error))


def show(runs: list[RunRecord]) -> None:
    """Prints the table of `runs` and draws their curves, a panel for each mean."""
    print(f"\n{'norm':<12}{'mean':>6}{'dev NLL':>10}{'guessing':>10}{'test BLEU':>11}")
    for run in sorted(runs, key=lambda run: (run.value("init_mean"), run.value("norm"))):
        (test,) = run.summary["test"].values()
        found = (run.measure("dev/nll"), run.summary["guessing"]["value"], test["bleu"])
        numbers = [f"{number:.2f}" if number is not None else "-" for number in found]
        mean = f"{run.value('init_mean'):g}"
        print(f"{run.value('norm'):<12}{mean:>6}{numbers[0]:>10}{numbers[1]:>10}{numbers[2]:>11}")
    panels = []
    for mean in sorted({run.value("init_mean") for run in runs}):
        chosen = [run for run in runs if run.value("init_mean") == mean]
        panels.append(Panel(chosen, "dev/nll", "step", title=f"initial mean {mean:g}"))
    write_figure(panels, draw_curves, FOLDER / "contrast.png")
    print(f"\ncurves: {FOLDER / 'contrast.png'}")


if __name__ == "__main__":
    main()
