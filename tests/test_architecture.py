"""Arrows point one way: who may import whom."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "normlab"
HYDRA = {"hydra", "omegaconf"}


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
    "norms": ({"norms", "errors"}, HYDRA),
    "models": ({"models", "norms", "errors"}, HYDRA),
    "search.py": (set(), HYDRA),
    "scoring.py": (set(), HYDRA | {"torch"}),
    "data": ({"data", "errors"}, HYDRA),
    "training": ({"training", "data", "models", "schema", "errors"}, HYDRA),
    "translation.py": ({"search", "data", "models", "training"}, HYDRA),
    "analysis": ({"analysis", "data", "models", "errors"}, HYDRA),
    "schema.py": ({"errors"}, {"torch", "hydra"}),
    "benchmarks": ({"benchmarks", "norms", "data", "training", "schema", "errors"}, HYDRA),
    "registration.py": ({"errors"}, HYDRA | {"torch"}),
    "reports": ({"reports", "registration", "errors"}, HYDRA | {"torch"}),
    "help.py": (set(), HYDRA | {"torch"}),
}


@pytest.mark.parametrize("place", RULES)
def test_arrows_point_one_way(place):
    ours, never = RULES[place]
    files = [f for f in FILES if f.relative_to(PACKAGE).parts[0] == place]
    assert files
    for file in files:
        for name in imports(file):
            head, *rest = name.split(".")
            assert head not in never, f"{file} imports {name}"
            if head == "normlab":
                assert rest[0] in ours, f"{file} imports {name}"


def test_models_know_the_contract_of_norms_and_no_norm():
    allowed = ("normlab.norms.base.", "normlab.norms.gru")
    for file in (PACKAGE / "models").glob("*.py"):
        for name in imports(file):
            assert not name.startswith("normlab.norms") or name.startswith(allowed), name


def test_every_place_has_a_rule():
    places = {f.relative_to(PACKAGE).parts[0] for f in FILES}
    assert places - set(RULES) == {"__init__.py", "errors.py", "run.py", "build.py", "rundir.py"}
