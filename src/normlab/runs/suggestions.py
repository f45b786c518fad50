"""What is wrong with a command line, in one sentence that says what to write instead."""

import re
from collections.abc import Sequence
from difflib import get_close_matches

from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)

from normlab.runs.options import GROUPS, fields, options, with_field

NORMS = ("norm", "norm@model.decoder_norm", "norm@model.qk_norm")
LAUNCHERS = "hydra/launcher=joblib or hydra/launcher=slurm"


def in_words(error: HydraException) -> str:
    """Returns the sentence for what Hydra found wrong with a command line."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return _unreadable(str(error.override))
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return unknown_option(group, option, error.options or [])
    if match := re.match(r"Could not override '([^']+)'", text):
        return unknown_key(match[1])
    if match := re.match(r"Ambiguous value for argument '(\S+?)=(.*)'", text):
        key, value = match.groups()
        as_list = "" if key in GROUPS else f", or write {key}=[{value}] for a list"
        return f"{key}={value} are several values: add -m for a job each{as_list}."
    if isinstance(error, ConfigCompositionException) and error.__cause__ is not None:
        text = str(error.__cause__)
    return text.split("\n")[0].rstrip(".") + "."


def unknown_option(group: str, option: str, known: Sequence[str]) -> str:
    """Returns the sentence for an option that a group does not have; it has `known`."""
    said = f"{group}={option} is unknown"
    others = [other for other in GROUPS if other != group and option in options(other)]
    if others:
        return f"{said}: {option} belongs to {others[0]}, as in {others[0]}={option}."
    if not known:
        return f"{said}: there is no folder {group} in conf/ or experiments/."
    return f"{said}: {_perhaps(option, known)}{group} has {', '.join(sorted(known))}."


def no_option(overrides: Sequence[str]) -> str | None:
    """Returns the sentence for the first `group=VALUE` whose value is no word, as in trainer=5."""
    for key, _, value in (override.partition("=") for override in overrides):
        if key in GROUPS and value not in (known := options(key)) and "," not in value:
            return unknown_option(key, value, known)
    return None


def listed_options(overrides: Sequence[Override]) -> str | None:
    """Returns the sentence for the first group that is given a list, as in norm=[none,rmsnorm]."""
    for each in overrides:
        if each.key_or_group in GROUPS and isinstance(found := each.value(), list):
            key = str(each.input_line).partition("=")[0]
            advice = f"{'-m ' * (len(found) > 1)}{key}={','.join(map(str, found)) or 'OPTION'}"
            return f"{each.input_line}: a job has one {each.key_or_group}, as in {advice}."
    return None


def unknown_key(key: str) -> str:
    """Returns the sentence for a key that the chosen options do not have."""
    group, _, field = key.rpartition(".")
    if "@" in key:
        return f"{key} is no place for a norm: use {' or '.join(NORMS)}."
    if key.startswith("hydra.launcher."):
        return f"{key} is no field of the chosen launcher: add {LAUNCHERS}."
    if group in GROUPS and (having := with_field(group, field)):
        which = f"{group}={having[0]}" if len(having) == 1 else f"one of {', '.join(having)}"
        return f"{key} belongs to {which}: choose that too, or leave {key} out."
    if elsewhere := [other for other in GROUPS if with_field(other, field)]:
        return f"{key} is no key: did you mean {elsewhere[0]}.{field}?"
    known = [f"{g}.{f}" for g in GROUPS for option in options(g) for f in fields(g, option)]
    known = list(dict.fromkeys([*GROUPS, "seed", *known]))
    return f"{key} is no key: {_perhaps(key, known)}`--help` lists them."


def unknown_flag(flag: str) -> str:
    """Returns the sentence for a flag that train.py does not have."""
    name = flag.lstrip("-").partition("=")[0]
    return f"{flag} is no flag of train: fields are written without dashes, as in {name}=VALUE."


def _unreadable(override: str) -> str:
    if "=" not in override:
        groups = [group for group in GROUPS if override in options(group)]
        example = f"{groups[0]}={override}" if groups else f"{override}=VALUE"
        return f"{override} says no value: write {example}."
    key, _, value = override.partition("=")
    if value.endswith(","):
        example = f"{key}=[A,B]" if value.startswith("[") else f"-m {key}=A,B"
        return f"{override} ends with a comma: write values without spaces, as in {example}."
    return f"{override} cannot be read: quote the value, as in '{key}=\"{value}\"'."


def _perhaps(word: str, known: Sequence[str]) -> str:
    found = get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {found[0]}? " if found else ""
