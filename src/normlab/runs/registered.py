"""What may be said on the command line of a registered sweep."""

from collections.abc import Iterable

from normlab.errors import UserError
from normlab.registration import LOCAL_KEYS

# Where the data lie, where and how runs start, who watches; some of the seeds.
FREE = (*LOCAL_KEYS, "data.path", "seed", "trainer.device", "logger")
FILES = ("data=text", "data=text_pairs", "data=cifar10_files")  # the hub's data as files


def check_free(overrides: Iterable[str]) -> None:
    """Raises UserError for an override that makes a run another than the registered one."""
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if not (key in FREE or key.startswith(("hydra.", "logger.")) or override in FILES):
            raise UserError(
                f"{override} is not what was registered: change the registration and its YAML "
                f"file. Free are {', '.join((*FREE, 'hydra.*', *FILES))}."
            )
