"""What makes a run the one it is: its config, less what only ends it or names it."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from normlab.files import flatten, hash_json
from normlab.registration import LOCAL, OUTSIDE

# A limit only stops a run: under a larger one it goes on. What shapes the learning rate is in
# `schedule`, and so part of the identity.
LIMITS = ("max_steps", "max_epochs", "max_minutes", "patience")
EXTRAS = ("per_matrix", "samples")  # they only add to what is logged
APART = {"data": LOCAL, "trainer": (*LIMITS, *EXTRAS)}  # what the files hold is checked by itself


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a plain config that two runs share only when they are the same run."""
    kept = {group: deepcopy(node) for group, node in config.items() if group not in OUTSIDE}
    for group, names in APART.items():
        for name in names:
            kept.get(group, {}).pop(name, None)
    return kept


def digest(config: Mapping[str, Any]) -> str:
    """Returns the identity of a plain config as hex digits (SHA-256)."""
    return hash_json(identity(config))


def owner(config: Mapping[str, Any], contents: Mapping[str, Any]) -> dict[str, str]:
    """Returns whose checkpoints may be loaded: those of this config and these data."""
    return {"config": digest(config), "data": hash_json(contents)}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Returns "key=old (now new)" for each key in which the identities of two configs differ."""
    old, new = flatten(identity(there)), flatten(identity(here))
    return [
        f"{key}={old.get(key)} (now {new.get(key)})"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def limits(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the limits of a plain config."""
    return {key: config["trainer"].get(key) for key in LIMITS}


def within(now: Mapping[str, Any], then: Mapping[str, Any]) -> bool:
    """Returns whether a run that ended under the limits `then` has ended under `now` too."""
    infinity = float("inf")

    def value(limits: Mapping[str, Any], key: str) -> float:
        return infinity if limits.get(key) is None else limits[key]

    return all(value(now, key) <= value(then, key) for key in LIMITS)
