"""What can be chosen: the groups of conf/, their options, and the fields of each with a comment."""

import re
from functools import cache

from normlab.paths import CONF

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
LINE = re.compile(r"( *)(?:- )?(\w+):? *(.*?)(?:  # (.*))?")


@cache
def options(group: str) -> list[str]:
    """Returns the options of a group, by name."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def purpose(group: str, option: str) -> str:
    """Returns the first comment of an option's file that is not for Hydra ("# @package ...")."""
    return next(line for line in _lines(group, option) if not line.startswith("# @"))[2:]


@cache
def fields(group: str, option: str) -> dict[str, str]:
    """Returns an option's fields, each with its comment; an option that it extends has them too."""
    found: dict[str, str] = {}
    lines = _lines(group, option)
    whole = lines[0] == "# @package _global_"  # then the fields of `group` are a block of their own
    block = "" if whole else group
    for line in lines:
        match = LINE.fullmatch(line)
        if match is None or line.startswith("#"):
            continue
        indent, name, _, comment = match.groups()
        if not indent:
            block = name if whole or name == "defaults" else group
        if block == "defaults" and "- " in line and name in options(group):
            found |= fields(group, name)
        elif block == group and len(indent) == (2 if whole else 0) and name != "_target_":
            found[name] = comment or found.get(name, "")
    return found


def with_field(group: str, field: str) -> list[str]:
    """Returns the options of a group that have a field."""
    return [option for option in options(group) if field in fields(group, option)]


def _lines(group: str, option: str) -> list[str]:
    return (CONF / group / f"{option}.yaml").read_text(encoding="utf-8").split("\n")
