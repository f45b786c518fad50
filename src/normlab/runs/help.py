"""The text of `train.py --help`: what can be chosen, and every field of what was chosen.

Comments are read from conf/ and values from the composed config, so that neither can drift.
"""

from collections.abc import Mapping
from typing import Any

from normlab.runs.options import GROUPS, fields, options, purpose


def help_text(config: Mapping[str, Any], choices: Mapping[str, str | None]) -> str:
    """Returns every group with its options, then the fields of the chosen ones, each on a line.

    config: as composed, interpolations as they are written; choices: the option of each group.
    """
    lines = [
        "Trains and scores one model; `-m` sweeps over comma-separated values.",
        "",
        "  python train.py norm=rmsnorm init.mean=0.2",
        "  python train.py -m norm=none,layernorm,rmsnorm,prmsnorm init.mean=0,0.2 seed=1,2",
        "",
        "Options (group=option):",
    ]
    for group, meaning in GROUPS.items():
        lines += ["", f"  {group}: {meaning}"]
        lines += [f"    {option:<20} {purpose(group, option)}" for option in options(group)]
    lines += [
        "",
        "Fields (group.field=value) of what is chosen; other options have others:",
    ]
    for group in GROUPS:
        option = choices.get(group)
        if option is None:
            continue
        lines += ["", f"  {group}={option}"]
        for field, comment in fields(group, option).items():
            value = config[group].get(field)
            name = f"{group}.{field}"
            if isinstance(value, dict) and f"norm@{name}" in choices:
                name, value = f"norm@{name}", choices[f"norm@{name}"]
            lines.append(f"    {f'{name}: {written(value)}':<46} {comment}".rstrip())
    lines += [
        "",
        f"  seed: {config['seed']}    of initialisation, batch order and dropout",
        "  hydra.run.dir=DIR    the run directory; starting again in it resumes",
        "  --cfg job    prints the config; -sc install=bash what makes a shell complete arguments",
        "",
    ]
    return "\n".join(lines)


def written(value: Any) -> str:
    """Returns a value as one writes it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float):
        return f"{value:g}".replace("e-0", "e-").replace("e+", "e")
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    return str(value) if value != "" else '""'
