"""Mutation testing: breaks the library in small ways and asks whether a test notices.

A stratified sample of the mutants that cosmic-ray can make of the modules below; each is tried in a
copy of the tree with the tests that are about it. Prints every mutant that survives and the share
noticed of each module. `make mutants` runs it; it takes about an hour and is not part of CI.
"""

import argparse
import difflib
import itertools
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue

try:
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names
except ImportError:
    sys.exit("mutants need cosmic-ray: pip install -e '.[mutants]'")

ROOT = Path(__file__).parents[1]
SOURCE = "src/normlab"
# module -> tests about it, the quickest first
MODULES = {
    "norms/functional.py": [
        "tests/norms/test_functional.py",
        "tests/norms/test_variants.py",
        "tests/norms/test_positions.py",
    ],
    "norms/modules.py": ["tests/norms/test_modules.py", "tests/norms/test_base.py"],
    "norms/affine_norm.py": ["tests/norms/test_modules.py", "tests/norms/test_base.py"],
    "norms/base.py": [
        "tests/norms/test_base.py",
        "tests/norms/test_modules.py",
        "tests/norms/test_gru_kernel.py",
    ],
    "models/initialization.py": ["tests/models"],
    "models/transformer.py": ["tests/models", "tests/norms/test_base.py"],
    "models/rnnsearch.py": ["tests/models", "tests/norms/test_base.py"],
    "training/loop.py": [
        "tests/training",
        "tests/runs/test_toy_task.py",
        "tests/runs/test_interrupts.py",
    ],
    "training/step.py": [
        "tests/training",
        "tests/runs/test_toy_task.py",
        "tests/test_loss_curves.py",
        "tests/runs/test_distributed.py",
    ],
    "training/limits.py": ["tests/training"],
    "training/progress.py": ["tests/training", "tests/runs/test_toy_task.py"],
    "training/log_window.py": ["tests/training"],
    "training/checkpoint.py": ["tests/training", "tests/runs/test_directory.py"],
    "training/schedules.py": ["tests/training"],
    "runs/identity.py": ["tests/runs/test_directory.py", "tests/runs/test_job.py"],
    "runs/directory.py": ["tests/runs/test_directory.py", "tests/runs/test_job.py"],
    "tasks/translation/search.py": ["tests/tasks/translation/test_search.py"],
    "tasks/translation/scoring.py": ["tests/tasks/translation/test_scoring.py"],
    "tasks/translation/loss.py": ["tests/tasks/translation/test_loss.py"],
    "tasks/translation/batching.py": ["tests/tasks/translation/test_batching.py"],
    "reports/verdicts.py": ["tests/reports/test_verdicts.py"],
    "reports/statistics.py": ["tests/reports/test_statistics.py", "tests/reports/test_verdicts.py"],
    "reports/selection.py": ["tests/reports/test_selection.py"],
}


@dataclass(frozen=True)
class Mutant:
    """One change of one module."""

    module: str
    operator: str
    code: str

    def difference(self) -> str:
        """Returns the changed lines."""
        before = (ROOT / SOURCE / self.module).read_text(encoding="utf-8").split("\n")
        lines = difflib.unified_diff(before, self.code.split("\n"), n=0, lineterm="")
        return "\n".join(line for line in list(lines)[2:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--per-module", type=int, default=10, help="mutants sampled per module")
    parser.add_argument("--modules", nargs="+", default=list(MODULES), help="some of them only")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    chosen = [m for name in args.modules for m in sample(name, args.per_module, args.seed)]
    with tempfile.TemporaryDirectory() as folder:
        trees: Queue[Path] = Queue()
        for number in range(args.jobs):
            tree = copy_tree(Path(folder) / str(number))
            trees.put(tree)
        every = sorted({test for name in args.modules for test in MODULES[name]})
        if fails(tree, every):  # or each mutant would seem noticed
            sys.exit(f"the tests fail without a mutant: {' '.join(every)}")
        with ThreadPoolExecutor(args.jobs) as pool:
            results = []
            for mutant, noticed in zip(
                chosen, pool.map(lambda mutant: notices(mutant, trees), chosen), strict=True
            ):
                results.append((mutant, noticed))
                if not noticed:
                    print(f"survived: {mutant.module} ({mutant.operator})\n{mutant.difference()}\n")
    report(results)


def sample(module: str, count: int, seed: int) -> list[Mutant]:
    """Returns `count` different mutants of a module, spread over cosmic-ray's operators."""
    code = (ROOT / SOURCE / module).read_text(encoding="utf-8")
    # Without those that need arguments, that break type annotations, which is no test, and that
    # change nothing: `is` for the `==` of words and small numbers.
    skipped = "Variable|BitOr|Comparison.*_Eq_Is$|Comparison.*_NotEq_IsNot$"
    names = sorted(name for name in operator_names() if not re.search(skipped, name))
    draw = random.Random(f"{seed} {module}")
    draw.shuffle(names)
    found: dict[str, Mutant] = {}
    for name in names:
        for occurrence in itertools.count():
            changed = mutate_code(code, get_operator(name)(), occurrence)
            if changed is None or len(found) >= 30 * count:
                break
            if changed != code:
                found.setdefault(changed, Mutant(module, name, changed))
    mutants = list(found.values())
    return draw.sample(mutants, min(count, len(mutants)))


def copy_tree(to: Path) -> Path:
    """Returns a copy of the checkout in which modules can be broken."""

    def skipped(folder: str, names: list[str]) -> set[str]:
        outputs = {"runs", ".git", ".venv"} if Path(folder) == ROOT else set()
        return outputs | {name for name in names if re.fullmatch(r"__pycache__|\..*_cache", name)}

    shutil.copytree(ROOT, to, ignore=skipped)
    return to


def notices(mutant: Mutant, trees: "Queue[Path]") -> bool:
    """Returns whether a test fails, or hangs, with the mutant in place of its module."""
    tree = trees.get()
    path = tree / SOURCE / mutant.module
    sound = path.read_text(encoding="utf-8")
    path.write_text(mutant.code, encoding="utf-8")
    try:
        return fails(tree, MODULES[mutant.module])
    finally:
        path.write_text(sound, encoding="utf-8")
        trees.put(tree)


def fails(tree: Path, tests: list[str]) -> bool:
    """Returns whether one of `tests` fails, or hangs, in a copy of the checkout."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [*command, "-m", "not long"],
            cwd=tree,
            env=environment,
            capture_output=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        return True
    return done.returncode != 0


def report(results: list[tuple[Mutant, bool]]) -> None:
    """Prints the share of each module."""
    for module in dict.fromkeys(mutant.module for mutant, _ in results):
        of_module = [noticed for mutant, noticed in results if mutant.module == module]
        print(f"{module:<40} {sum(of_module):>3} of {len(of_module):>3}")
    total = sum(noticed for _, noticed in results)
    print(f"{'all':<40} {total:>3} of {len(results):>3}, {100 * total / len(results):.0f} %")


if __name__ == "__main__":
    main()
