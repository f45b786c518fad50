"""Compares two runs' stored test outputs by paired bootstrap resampling (sacreBLEU's own).

It tests the outputs of these two trainings, not the settings behind them: another seed may turn the
result around. For that compare several seeds, as the tables of scripts/report.py do.
"""

import argparse
import sys
from pathlib import Path

from normlab import markdown
from normlab.errors import UserError
from normlab.files import check_files, read_sealed
from normlab.reports.records import read_record, varying
from normlab.tasks.translation.scoring import compare


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_a", type=Path)
    parser.add_argument("run_b", type=Path)
    parser.add_argument("--samples", type=int, default=1000, help="bootstrap resamples")
    args = parser.parse_args()
    try:
        for difference in differences(args.run_a, args.run_b):
            print(f"not like for like: {difference}")
        for run in (args.run_a, args.run_b):
            if (run / "summary.json").exists():
                check_files(run, read_sealed(run / "summary.json").get("files", {}))
        names = shared_sets(args.run_a, args.run_b)
        rows = []
        for name in names:
            a, b = (lines(run / "hypotheses" / name) for run in (args.run_a, args.run_b))
            references = lines(args.run_a / "references" / name)
            if references != lines(args.run_b / "references" / name):
                raise UserError(f"the runs have different references for {name}: no comparison.")
            for result in compare(a, b, references, args.samples):
                scores = f"{result.a:.2f}", f"{result.b:.2f}", f"{result.b - result.a:+.2f}"
                rows.append((Path(name).stem, result.metric, *scores, f"{result.p:.2g}"))
                print(f"{result.metric}: {result.signature}", file=sys.stderr)
        print(*markdown.table(("test set", "metric", "A", "B", "B - A", "p"), rows), sep="\n")
    except (UserError, ValueError) as error:
        sys.exit(str(error))
    print("\nA paired bootstrap over sentences: it tests these outputs, not seeds.")


def differences(run_a: Path, run_b: Path) -> list[str]:
    """Returns in what the runs differ that is no question of norm or initialisation."""
    if not all((run / "summary.json").exists() for run in (run_a, run_b)):
        return []  # outputs of something else, laid out as those of a run
    a, b = read_record(run_a), read_record(run_b)
    for run in (a, b):
        if run.summary["status"] == "failed":
            raise UserError(f"{run.path} has failed: {run.summary.get('error')}")
        if not run.ended:
            raise UserError(
                f"{run.path} is {run.summary['status']}: outputs in it are of an earlier end. "
                "Let it come to its end first."
            )
        if (task := run.summary["task"]) != "translation":
            raise UserError(f"{run.path} is of task={task}: BLEU and chrF are for translations.")
    found = []
    if a.summary["steps"] != b.summary["steps"]:
        found.append(f"A was trained for {a.summary['steps']} steps, B for {b.summary['steps']}.")
    if a.summary.get("contents") != b.summary.get("contents"):
        found.append("A and B were trained on other data or subwords.")
    if (tested := [run.summary.get("weights", "best") for run in (a, b)])[0] != tested[1]:
        found.append(f"A was tested with its {tested[0]} weights, B with its {tested[1]} ones.")
    for key in varying([[a, b]]):
        if not key.startswith(("norm.", "init.")) and key not in ("data", "trainer.max_steps"):
            found.append(f"A has {key}={a.setting(key)}, B has {b.setting(key)}.")
    return found


def shared_sets(run_a: Path, run_b: Path) -> list[str]:
    """Returns the file names of the test sets that both runs translated."""
    names = []
    for run in (run_a, run_b):
        if not run.is_dir():
            raise UserError(f"{run} is no run directory.")
        if not (run / "summary.json").exists() and any(run.glob("*/summary.json")):
            raise UserError(f"{run} is a folder of runs: name one of them.")
        found = {path.name for path in (run / "hypotheses").glob("*.txt")}
        if not found:
            raise UserError(f"{run} holds no test outputs: the run diverged, or is not finished.")
        names.append(found)
    if not names[0] & names[1]:
        raise UserError(f"{run_a} and {run_b} have no test set in common.")
    return sorted(names[0] & names[1])


def lines(path: Path) -> list[str]:
    """Returns the lines of a stored text, which end with \\n and nothing else."""
    if not path.exists():
        raise UserError(f"{path} is missing.")
    return path.read_bytes().decode("utf-8").split("\n")[:-1]


if __name__ == "__main__":
    main()
