"""What the README and the pages it leads to promise is done here as it says."""

import math
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from processes import ROOT, script, summary_of, train
from tiny import TINY

from normlab.paths import CONF
from normlab.runs.assemble import check_parts
from normlab.runs.config import parse_config
from normlab.runs.job import run
from normlab.runs.sweeps import compose_job, sweep_jobs

PAGES = {
    name: (ROOT / name).read_text(encoding="utf-8")
    for name in ("README.md", "conf/README.md", "src/README.md", "CONTRIBUTING.md")
}
README = "\n\n".join(PAGES[name] for name in ("README.md", "conf/README.md"))
PLAIN = re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE)  # without outputs, code
BLOCKS = re.findall(r"(?:^    .*\n)+", PLAIN, re.MULTILINE)
LINES = [
    shlex.split(line.strip(), comments=True)
    for block in BLOCKS
    for line in block.replace("\\\n", " ").split("\n")
]
COMMANDS = [line for line in LINES if line and re.fullmatch(r"[a-z][\w-]*", line[0])]
TRAINING = [line[line.index("train.py") + 1 :] for line in COMMANDS if "train.py" in line]
TRAINING += [line[2:] for line in COMMANDS if line[:2] == ["normlab", "train"]]
SCRIPTS = [line for line in COMMANDS if line[0] == "python" and "scripts/" in line[1]]
ELSEWHERE = ("python3", "pip", "pytest", "wandb")  # CI installs and tests, test_wandb.py syncs


def test_adding_a_norm_takes_ten_lines_and_trains(tiny_config, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["CONTRIBUTING.md"], re.DOTALL)
    lines = [line for line in code.split("\n") if line.strip()]
    assert len([line for line in lines if not re.match("from|import", line)]) <= 10
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    config = tiny_config("~norm", "+norm={_target_: mine.MaxNorm, eps: 1e-6}", "names.norm=max")
    assert run(config, tmp_path / "r", [])["status"] == "completed"


def test_the_yaml_of_that_norm_is_what_its_class_takes():
    (code,) = re.findall(r"```python\n(.*?)```", PAGES["CONTRIBUTING.md"], re.DOTALL)
    (node,) = re.findall(r"```yaml\n(.*?)```", PAGES["CONTRIBUTING.md"], re.DOTALL)
    space: dict = {}
    exec(code, space)
    options = dict(OmegaConf.create(node))
    assert options.pop("_target_") == "mine.MaxNorm"
    x = torch.randn(2, 3, 4, 5)
    planes = space["MaxNorm"](3, axes=(-2, -1), parameter_axis=-3, **options)(x)
    torch.testing.assert_close(planes.abs().amax((-2, -1)), torch.ones(2, 3), atol=1e-4, rtol=0)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_it_names_exists(page):
    for path in re.findall(r"`((?:src|conf|scripts|tests)/[\w/.]+)`", PAGES[page]):
        assert (ROOT / path).exists() or re.search("maxnorm|NAME", path), path
    for path in re.findall(r"\]\(([^):#]+)[^):]*\)", PAGES[page]):
        assert (ROOT / page).parent.joinpath(path).exists(), path


def test_every_command_of_it_is_tried_in_this_file_or_elsewhere():
    for line in COMMANDS:
        tried = line[0] in (*ELSEWHERE, "make", "normlab") or "train.py" in line or line in SCRIPTS
        assert tried, line
    assert len(TRAINING) > 10 and len(SCRIPTS) > 7


@pytest.mark.slow
@pytest.mark.parametrize("overrides", TRAINING, ids=" ".join)
def test_a_training_command_can_be_built(overrides, monkeypatch):
    monkeypatch.chdir(ROOT)
    if any("hydra/launcher=" in each for each in overrides):
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
        pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    if "-m" not in overrides:
        check_parts(parse_config(compose_job(CONF, overrides)))
        return
    jobs = list(sweep_jobs(CONF, [each for each in overrides if each != "-m"]).values())
    swept = [each for each in overrides if "," in each and "[" not in each]
    assert len(jobs) == math.prod(each.count(",") + 1 for each in swept)
    for job in (jobs[0], jobs[-1]):
        check_parts(parse_config(compose_job(CONF, job)))


@pytest.mark.parametrize("target", [line[1] for line in COMMANDS if line[0] == "make"])
def test_a_make_target_exists(target):
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_cache):
    """Returns a folder as a user has it after training on English and French sentences."""
    folder = tmp_path_factory.mktemp("place")
    for name in ("train.py", "scripts", "conf", "experiments"):
        (folder / name).symlink_to(ROOT / name)
    nouns = {"dog": "chien", "cat": "chat", "boy": "garçon", "horse": "cheval", "friend": "ami"}
    verbs = {"sleeps": "dort", "eats": "mange", "sings": "chante", "reads": "lit"}
    pairs = [(f"The {a} {c}.", f"Le {b} {d}.") for a, b in nouns.items() for c, d in verbs.items()]
    (folder / "DIR").mkdir()
    for name, chosen in (("train", 15 * pairs), ("val", pairs[:6]), ("test", pairs[6:12])):
        for side, language in enumerate(("en", "fr")):
            text = "".join(pair[side] + "\n" for pair in chosen)
            (folder / "DIR" / f"{name}.{language}").write_text(text, encoding="utf-8")
    for side, name in enumerate(("input.en", "reference.fr")):
        (folder / name).write_text("".join(pair[side] + "\n" for pair in pairs[:5]))
    line = next(
        line for line in TRAINING if "data=text" in line and "hydra.run.dir=runs/mine" in line
    )
    short = [each for each in TINY if not each.startswith("data.")]
    short += ["data.tgt=fr", "data.vocab_size=264", f"data.cache_dir={tiny_cache}"]
    for norm in ("layernorm", "rmsnorm"):
        overrides = [each for each in line if not each.startswith(("norm=", "hydra."))]
        overrides = [each.replace("DIR", str(folder / "DIR")) for each in overrides]
        done = train(*overrides, *short, f"norm={norm}", f"hydra.run.dir={folder}/runs/{norm}")
        assert done.returncode == 0, done.stdout
        assert summary_of(folder / "runs" / norm)["status"] == "completed"
    (folder / "runs" / "mine").symlink_to("layernorm")
    return folder


def execute(folder, name, *arguments, **options):
    done = script(name, *arguments, cwd=folder, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", SCRIPTS, ids=" ".join)
def test_a_script_does_what_it_says(place, command):
    """On runs of twelve steps, in the words of the README but for the names in capitals."""
    _, path, *arguments = command
    name = Path(path).stem
    if name in ("reproduce", "gpu"):  # test_experiments.py runs one; these would take hours
        told = execute(place, path, "--help")
        assert all(each in told for each in arguments if each.startswith("--"))
        return
    if name in ("curves", "report"):
        pytest.importorskip("matplotlib")
    if name == "wandb_dashboard":
        pytest.importorskip("wandb_workspaces")
        arguments += ["--dry-run"]
    names = {"RUN_DIR": "runs/mine", "RUN_A": "runs/layernorm", "RUN_B": "runs/rmsnorm"}
    names |= {"reference.de": "reference.fr", "TEAM": "me"}
    names |= {f"runs/sweep/*{end}": "runs/layernorm" for end in ("", "/")}
    arguments = [names.get(each, each) for each in arguments]
    if "<" in arguments:
        start = arguments.index("<")
        given = (place / arguments[start + 1]).read_text(encoding="utf-8")
        output = execute(place, path, *arguments[:start], given=given)
        assert output.count("\n") == 5
        return
    assert execute(place, path, *arguments)
