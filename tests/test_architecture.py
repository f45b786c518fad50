"""Arrows point one way: who may import whom, and what a place may not know."""

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "normlab"
HYDRA = {"hydra", "omegaconf"}
BASICS = ("errors", "types", "files", "markdown", "paths", "ranks", "distributed", "devices")
SHARED = (  # what several tasks stand on
    "tasks.task",
    "tasks.batching",
    "tasks.cache",
    "tasks.hub",
    "tasks.words",
    "tasks.translation.corpora",
    "tasks.translation.grammar",
    "tasks.translation.tokenised",
)


def imports(path):
    """Returns every module that the file imports anywhere, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))
RULES = {
    # place: (of ours it may import only these, and never these packages)
    "errors.py": ((), HYDRA | {"torch"}),
    "types.py": ((), HYDRA | {"torch"}),
    "files.py": (("errors",), HYDRA | {"torch"}),
    "markdown.py": ((), HYDRA | {"torch"}),
    "paths.py": ((), HYDRA | {"torch"}),
    "cli.py": (("paths", "runs.command_line"), HYDRA | {"torch"}),
    "__main__.py": (("cli",), HYDRA | {"torch"}),
    "ranks.py": (("errors",), HYDRA | {"torch"}),
    "devices.py": ((), HYDRA),
    "distributed.py": (("errors", "ranks"), HYDRA),
    "registration.py": (("errors",), HYDRA | {"torch"}),
    "norms": (("norms", "errors", "types"), HYDRA),
    "models": (("models", "norms.base", "norms.fused_gru", "devices", "errors", "types"), HYDRA),
    "tasks/task.py": (("distributed",), HYDRA),
    "tasks/translation": (
        (
            "tasks.translation",
            "tasks.task",
            "tasks.cache",
            "tasks.hub",
            "models.seq2seq",
            "analysis.geometry",
            "analysis.hidden",
            "distributed",
            *BASICS,
        ),
        HYDRA | {"training"},
    ),
    "tasks/translation/search.py": ((), HYDRA | {"numpy", "tokenizers"}),
    "tasks/translation/scoring.py": ((), HYDRA | {"torch"}),
    "tasks/batching.py": (("errors",), HYDRA | {"torch"}),
    "tasks/cache.py": (("files",), HYDRA | {"torch"}),
    "tasks/hub.py": (("errors",), HYDRA | {"torch"}),
    "tasks/words.py": (("errors",), HYDRA | {"torch"}),
    **{
        f"tasks/{name}": (
            (f"tasks.{name}", f"models.{model}", "models.network", *SHARED, *BASICS),
            HYDRA | {"training"},
        )
        for name, model in (("images", "convpool"), ("retrieval", "order"), ("reading", "reader"))
    },
    "training": (("training", "tasks.task", "distributed", *BASICS), HYDRA),
    "analysis": (("analysis", "models", "norms", "errors", "markdown"), HYDRA),
    # From the config to the reports all of ours may meet here, and nowhere else.
    "runs": (
        (
            "runs",
            "training",
            "tasks",
            "models",
            "norms",
            "analysis",
            "registration",
            "distributed",
            "ranks",
            *BASICS,
        ),
        set(),
    ),
    "benchmarks": (
        (
            "analysis.conversion",
            "benchmarks",
            "runs",
            "training",
            "tasks",
            "models",
            "norms",
            "reports",
            *BASICS,
        ),
        HYDRA,
    ),
    "reports": (("reports", "errors", "files", "markdown", "registration"), HYDRA | {"torch"}),
}


def within(place):
    return [path for path in FILES if f"{path.relative_to(PACKAGE)}/".startswith(f"{place}/")]


@pytest.mark.parametrize("place", RULES)
def test_arrows_point_one_way(place):
    ours, never = RULES[place]
    assert within(place)
    for file in within(place):
        for name in imports(file):
            head, _, rest = name.partition(".")
            assert head not in never, f"{file} imports {name}"
            if head == "normlab":
                allowed = any(f"{rest}.".startswith(f"{module}.") for module in ours)
                assert allowed, f"{file} imports {name}"


def test_every_file_has_a_rule():
    ruled = {file for place in RULES for file in within(place)}
    empty = {path for path in FILES if path.name == "__init__.py" and not imports(path)}
    assert set(FILES) - ruled <= empty


def test_only_runs_knows_hydra():
    root = PACKAGE.parents[1]
    knowing = {
        file.relative_to(root).parts[:3]
        for file in [*FILES, *root.glob("scripts/*.py"), root / "train.py"]
        if any(name.partition(".")[0] in HYDRA for name in imports(file))
    }
    assert knowing == {("src", "normlab", "runs")}


def test_the_trainer_knows_nothing_of_any_task():
    words = re.compile("bleu|src|tgt|translat|token|sentence|vocab", re.IGNORECASE)
    for file in (PACKAGE / "training").rglob("*.py"):
        for number, line in enumerate(file.read_text(encoding="utf-8").split("\n"), start=1):
            assert not words.search(line), f"{file}:{number}: {line.strip()}"
