"""The wheel works where there is no repository: configs, experiments, commands, completion."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from processes import ENVIRONMENT, ROOT, summary_of
from tiny import TINY

pytest.importorskip("setuptools")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Returns the folder of programs of a new environment that holds the wheel.

    What normlab depends on is read from where the tests run: torch alone is a gigabyte.
    """
    folder = tmp_path_factory.mktemp("wheel")
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    for name in ("src", "conf", "experiments", "scripts"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip"]
    options = ["--quiet", "--no-deps", "--no-index"]
    wheels = [*pip, "wheel", *options, "--no-build-isolation", "-w", folder, source]
    subprocess.run(wheels, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", *options, wheel], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    # A line of a .pth file is a folder whose own .pth files, as of a checkout, count for nothing.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return environment / "bin"


@pytest.fixture
def normlab(installed, tmp_path):
    """Returns a function that runs `normlab ...` in an empty folder and returns what it printed."""
    clean = {k: v for k, v in ENVIRONMENT.items() if k != "PYTHONPATH"}

    def run(*arguments, program="normlab", **options):
        done = subprocess.run(
            [installed / program, *map(str, arguments)], cwd=tmp_path, capture_output=True,
            text=True, timeout=300, env=clean | options.pop("env", {}), **options,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.long
def test_it_trains_translates_and_scores(normlab, tmp_path, tiny_cache):
    where = normlab("-c", "import normlab; print(normlab.__file__)", program="python")
    assert "environment/lib" in where
    cache = f"data.cache_dir={tiny_cache}"
    for norm in ("layernorm", "rmsnorm"):
        normlab("train", *TINY, cache, f"norm={norm}", f"hydra.run.dir={norm}")
        assert summary_of(tmp_path / norm)["status"] == "completed"
    assert normlab("translate", "rmsnorm", input="A dog.\n\nA cat.\n").count("\n") == 3
    assert '"bleu"' in normlab("evaluate", "rmsnorm")
    assert "| test | BLEU |" in normlab("compare", "layernorm", "rmsnorm", "--samples", 20)
    assert "rmsnorm" in normlab("table", "layernorm", "rmsnorm")


def test_it_carries_configs_experiments_and_commands(normlab):
    commands = normlab("--help")
    for path in (ROOT / "scripts").glob("*.py"):
        if path.stem not in ("gpu", "mutants"):
            assert f"  {path.stem} " in commands
    assert "usage: normlab translate [-h]" in normlab("translate", "--help")
    assert "norm.p: 0.0625" in normlab("train", "norm=prmsnorm", "--help")
    assert "schedule" in normlab("train", "+table4=smoke", "--cfg", "job")
    assert "layernorm" in normlab("analyze", "invariance")
    assert "wrote results/README.md" in normlab("report")
    assert normlab("--version").strip()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("normlab tr", "translate"),
        ("normlab train norm=rms", "norm=rmsnorm"),
        ("normlab train trainer.max_st", "trainer.max_steps="),
    ],
)
def test_a_shell_completes(normlab, installed, line, found):
    if not Path("/bin/bash").exists():
        pytest.skip("no bash")
    words = line.split()
    script = f"""
    eval "$(normlab train -sc install=bash)"
    COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={len(words) - 1}
    hydra_bash_completion
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{installed}{os.pathsep}{os.environ['PATH']}"
    output = normlab("-c", script, program="/bin/bash", env={"PATH": path})
    assert found in output.split("\n")
