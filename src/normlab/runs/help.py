"""The text of `python train.py --help`, read from the comments in conf/ so that it cannot drift."""

from pathlib import Path

import yaml

GROUPS = {  # in the order in which a reader needs them
    "task": "what is learned",
    "norm": "the normalisation layer under study",
    "init": "the initial weights and the shift of their mean",
    "model": "the network",
    "data": "the corpus",
    "decoding": "how translations are searched for",
    "optimizer": "the optimiser",
    "schedule": "the learning rate",
    "trainer": "limits, evaluation, checkpoints, device",
    "logger": "where metrics go besides metrics.jsonl",
}


def help_text(conf: Path) -> str:
    """Returns every group with its options, then every default option's fields, one per line."""
    lines = [
        "Trains and scores one model; `-m` sweeps over comma-separated values.",
        "",
        "  python train.py norm=rmsnorm init.mean=0.2",
        "  python train.py -m norm=none,layernorm,rmsnorm,prmsnorm init.mean=0,0.2 seed=1,2",
        "",
        "Options (group=option):",
    ]
    for group, purpose in GROUPS.items():
        lines += ["", f"  {group}: {purpose}"]
        for path in sorted((conf / group).glob("*.yaml")):
            lines.append(f"    {path.stem:<20} {_purpose(path)}")
    lines += ["", "Fields (group.field=value), with the values of one option of each group:"]
    for group, default in _defaults(conf).items():
        lines += ["", f"  {group}={default}"]
        fields = (conf / group / f"{default}.yaml").read_text(encoding="utf-8").split("\n")[1:]
        for field in fields:
            if field and not field.startswith(("_target_", "defaults", " ", "#")):
                value, _, comment = field.partition("  # ")
                lines.append(f"    {group + '.' + value:<46} {comment}".rstrip())
    lines += [
        "",
        "  seed=1    of initialisation, batch order and dropout",
        "  hydra.run.dir=DIR    the run directory; starting again in it resumes",
        "",
    ]
    return "\n".join(lines)


def _purpose(path: Path) -> str:
    """Returns the first comment of an option's file that is not for Hydra ("# @package ...")."""
    lines = path.read_text(encoding="utf-8").split("\n")
    return next(line for line in lines if not line.startswith("# @")).removeprefix("# ")


def _defaults(conf: Path) -> dict[str, str]:
    """Returns the option of each group in conf/train.yaml, in the order of GROUPS."""
    entries = yaml.safe_load((conf / "train.yaml").read_text(encoding="utf-8"))["defaults"]
    chosen: dict[str, str] = {}
    for entry in entries:
        if isinstance(entry, dict):
            chosen |= entry
    return {group: chosen[group] for group in GROUPS}
