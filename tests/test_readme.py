"""What the README promises is done here as it says."""

import re
from pathlib import Path

from normlab import norms, run
from normlab.norms import modules

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_adding_a_norm_takes_ten_lines_and_trains(tiny_config, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.split("\n") if line.strip()]) <= 10
    namespace = vars(modules).copy()
    exec(code, namespace)
    monkeypatch.setattr(norms, "MaxNorm", namespace["MaxNorm"], raising=False)
    config = tiny_config("~norm", "+norm={_target_: normlab.norms.MaxNorm, eps: 1e-6}")
    assert run.run(config, tmp_path / "r", [])["status"] == "completed"


def test_every_path_it_names_exists():
    root = Path(__file__).parents[1]
    for path in re.findall(r"`((?:src|conf|scripts)/[\w/.]+)`", README):
        assert (root / path).exists() or "maxnorm" in path, path
    for path in re.findall(r"\]\((results/[^)]+)\)", README):
        assert (root / path).exists(), path
