"""Where a config meets a constructor: names and types are checked against its signature."""

import importlib
import inspect
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from normlab.errors import UserError
from normlab.paths import CONF
from normlab.types import Number, Whole

PLAIN = {  # what pydantic calls things, in words of the command line
    "a valid integer": "an integer",
    "a valid integer, got a number with a fractional part": "an integer",
    "a valid number": "a number",
    "a valid string": "a text",
    "a valid boolean": "true or false",
}


def target_of(
    group: str,
    node: Mapping[str, Any],
    trusted: Collection[str] | None = None,
    key: str | None = None,
) -> Any:
    """Returns what `node["_target_"]` names, a class or function; the node is an option of `group`.

    With `trusted`, a list of import paths, only those and what the files of conf/<group> name are
    imported: a config that was stored is data, and must not run what it likes.
    Raises UserError when there is no such thing or it is not trusted. `key` says where the node
    stands when that is not `group`: "model.decoder_norm".
    """
    path, key = node.get("_target_"), key or group
    if not isinstance(path, str):
        raise UserError(f"{key}._target_ is missing: choose an option of conf/{group}.")
    if trusted is not None and path not in trusted and path not in known_targets(group):
        raise UserError(
            f"{key}._target_={path} is none of normlab's own: if you trust it, name it with "
            f"--trust {path}."
        )
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{key}._target_={path} cannot be imported ({error}).") from error


@cache
def known_targets(group: str) -> frozenset[str]:
    """Returns the targets that the files of conf/<group> name."""
    files = [yaml.safe_load(p.read_text("utf-8")) for p in (CONF / group).glob("*.yaml")]
    nodes = [data.get(group, data) for data in files]  # a global package nests its group
    return frozenset(node["_target_"] for node in nodes if "_target_" in node)


def check_arguments(
    group: str,
    kind: Callable,
    arguments: Mapping[str, Any],
    given: Collection[str] = (),
    also: Collection[str] = (),
) -> dict[str, Any]:
    """Returns `arguments` for `kind` with the types of its signature; `given` come from elsewhere.

    `also` are keys of the group that something else takes, for the list in an error.

    Raises UserError naming the key (`group.argument`) that is unknown, missing or of a wrong type
    or range.
    """
    model = _model_of(kind, tuple(sorted(given)))
    try:
        checked = model.model_validate(dict(arguments))
    except ValidationError as error:
        raise UserError(sentence(error, f"{group}.", [*model.model_fields, *also])) from None
    return {name: getattr(checked, name) for name in arguments}


@contextmanager
def keys_of(group: str, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Turns the arguments that a UserError inside names into keys: `eps=` into `norm.eps=`."""
    try:
        yield
    except UserError as error:
        if not arguments:
            raise
        names = "|".join(map(re.escape, arguments))
        text = re.sub(rf"(?<![\w./])({names})(?==| must\b)", rf"{group}.\1", str(error))
        raise UserError(text) from error


def sentence(error: ValidationError, prefix: str = "", known: Collection[str] = ()) -> str:
    """Returns the first problem that pydantic found as one sentence naming the key and the fix."""
    problem = error.errors()[0]
    # Positions in a list and the branches of a union are no part of a key's name.
    path = [str(part) for part in problem["loc"] if isinstance(part, str) and part.isidentifier()]
    key = prefix + ".".join(path)
    value = problem.get("input")
    if isinstance(value, str) and not value.strip():
        value = repr(value)  # else nobody sees it
    match problem["type"]:
        case "extra_forbidden":
            listed = f": {prefix.rstrip('.')} has {', '.join(known)}" if known else ""
            unknown = prefix + ".".join(map(str, problem["loc"]))
            near = get_close_matches(str(problem["loc"][-1]), known, n=1)
            listed += f"; did you mean {prefix}{near[0]}?" if near else "."
            return f"{unknown} is no key of the config{listed}"
        case "missing" if isinstance(problem["loc"][-1], int):
            return f"{key} is too short: its entry {problem['loc'][-1] + 1} is missing."
        case "missing":
            return f"no value for {key}: give one, as in `{key}=...`."
        case "value_error":
            return f"{problem['ctx']['error']}."
        case "greater_than_equal":
            return f"{key} must be >= {_number(problem['ctx']['ge'])}, got {value}."
        case "greater_than":
            return f"{key} must be > {_number(problem['ctx']['gt'])}, got {value}."
        case "less_than_equal":
            return f"{key} must be <= {_number(problem['ctx']['le'])}, got {value}."
        case "less_than":
            return f"{key} must be below {_number(problem['ctx']['lt'])}, got {value}."
        case "int_parsing_size":
            return f"{key}={value} is too large."
        case "literal_error":
            choices = problem["ctx"]["expected"].replace("'", "")
            return f"{key}={value} is unknown: use {choices}."
    expected = problem["msg"].removeprefix("Input should be ").partition(", unable")[0]
    expected = PLAIN.get(expected, expected)
    if expected in ("a valid list", "a valid tuple") or "Sequence" in expected:
        expected = "a list"
    return f"{key}={value} is wrong: it must be {expected[:1].lower()}{expected[1:]}."


def _number(limit: float) -> str:
    """Returns a limit as one writes it: pydantic has 0.0 and 1.0 for those of floats."""
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


@cache
def _model_of(kind: Callable, given: tuple[str, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(kind, eval_str=True).parameters.items():
        if name in given or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        type_ = Any if parameter.annotation is parameter.empty else parameter.annotation
        type_ = {int: Whole, float: Number}.get(type_, type_)
        fields[name] = (type_, ... if parameter.default is parameter.empty else parameter.default)
    config = ConfigDict(extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)
    return create_model(getattr(kind, "__name__", "arguments"), __config__=config, **fields)
