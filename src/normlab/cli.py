"""The command `normlab`: train.py and scripts/ from any directory."""

import ast
import importlib
import os
import sys
from collections.abc import Sequence

from normlab.paths import SCRIPTS

FOR_A_CHECKOUT = ("gpu", "mutants")  # scripts that work on the repository itself
TRAIN = "Trains and scores one model, `-m` several: `normlab train norm=rmsnorm init.mean=0.2`."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs `normlab COMMAND ...`; Ctrl-C ends it with one line and the exit code of a shell."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(argv)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        sys.exit(130)


def _run(argv: list[str]) -> None:
    if argv[:1] == ["-sc"]:  # what a shell asks while one types: Hydra completes train's arguments
        argv = _completion(argv)
    command, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if command == "train":
        from normlab.runs.command_line import main as train

        train(rest)
    elif command in _scripts():
        sys.argv = [f"normlab {command}", *rest]
        importlib.import_module(f"normlab.scripts.{command}").main()
    elif command in ("--help", "-h", "help"):
        print(_help())
    elif command == "--version":
        from importlib.metadata import version

        print(version("normlab"))
    else:
        sys.exit(f"normlab has no command {command}; it has {', '.join(['train', *_scripts()])}.")


def _scripts() -> list[str]:
    names = sorted(path.stem for path in SCRIPTS.glob("*.py"))
    return [name for name in names if name not in FOR_A_CHECKOUT]


def _help() -> str:
    lines = ["normlab COMMAND ...; `normlab COMMAND --help` explains one.", "", f"  {'train':<16}"]
    lines[-1] += TRAIN
    for name in _scripts():
        text = ast.get_docstring(ast.parse((SCRIPTS / f"{name}.py").read_text("utf-8"))) or ""
        lines.append(f"  {name:<16}{text.splitlines()[0]}")
    return "\n".join(lines)


def _completion(argv: list[str]) -> list[str]:
    """Returns the arguments that answer a shell which completes `normlab ...`."""
    program, *words = os.environ.get("COMP_LINE", "").split()
    if words[:1] == ["train"]:
        # Hydra reads the line as "PROGRAM OVERRIDES ...".
        os.environ["COMP_LINE"] = os.environ["COMP_LINE"].replace(f"{program} train", program, 1)
        return ["train", *argv]
    print(" ".join(["train", *_scripts()] if len(words) < 2 else []))
    sys.exit()
