"""The front door of training: its command line, with help and mistakes in our words."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from normlab.errors import LOGGED, UserError
from normlab.paths import CONF
from normlab.ranks import quiet_arguments, starts_first
from normlab.runs import suggestions, sweeps

sweeps.register_resolvers()  # when this is imported, which the processes of a launcher do too


@hydra.main(version_base="1.3", config_path=str(CONF), config_name="train")
def train(cfg: DictConfig) -> None:
    """Runs one job of the command line in sys.argv."""
    from normlab.runs import job  # what it needs is not needed for help and mistakes

    job.main(cfg)


def main(arguments: Sequence[str]) -> None:
    """Runs train.py with `arguments`; a mistake in them is one sentence and exit code 2."""
    sys.argv = quiet_arguments([sys.argv[0], *arguments])
    known, unknown = get_args_parser().parse_known_args(sys.argv[1:])
    started = False
    try:
        if flags := [each for each in unknown if each.startswith("-")]:
            raise UserError(suggestions.unknown_flag(flags[0]))
        if known.help:
            _show(sweeps.help_for(CONF, known.overrides))
            return
        parsed = OverridesParser.create().parse_overrides(known.overrides)
        if wrong := suggestions.listed_options(parsed):
            raise UserError(wrong)
        os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra hands on what went wrong, instead of saying it
        started = True
        train()
    except HydraException as error:
        _end(suggestions.in_words(error), 2)
    except UserError as error:
        if known.multirun and started:  # each job has said its own in its place
            _end("Some jobs failed; what each said stands above and in its train.log.", 1)
        _end(str(error), 2)
    except ValueError as error:
        # Hydra's, for a group's option that is no word: trainer=5.
        if "Config group override" not in str(error):
            raise
        _end(suggestions.no_option(known.overrides) or str(error), 2)
    except Exception as error:
        if LOGGED not in getattr(error, "__notes__", ()):
            raise
        sys.exit(1)


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # who reads has read enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python says so again


def _end(sentence: str, code: int) -> NoReturn:
    if starts_first():  # under torchrun all processes would say the same
        print(sentence, file=sys.stderr)
    sys.exit(code)
