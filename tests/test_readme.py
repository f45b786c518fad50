"""What the README promises is done here as it says."""

import re
from pathlib import Path

from normlab.runs.job import run

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_adding_a_norm_takes_ten_lines_and_trains(tiny_config, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    lines = [line for line in code.split("\n") if line.strip()]
    assert len([line for line in lines if not re.match("from|import", line)]) <= 10
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny_config("~norm", "+norm={_target_: mine.MaxNorm, eps: 1e-6}", "names.norm=max")
    assert run(config, tmp_path / "r", [])["status"] == "completed"


def test_every_path_it_names_exists():
    root = Path(__file__).parents[1]
    for path in re.findall(r"`((?:src|conf|scripts)/[\w/.]+)`", README):
        assert (root / path).exists() or "maxnorm" in path, path
    for path in re.findall(r"\]\((results/[^)]+)\)", README):
        assert (root / path).exists(), path
