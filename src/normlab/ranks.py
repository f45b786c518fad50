"""Which of a run's processes this one is, by what started it: torchrun, submitit, or nobody."""

import os
from typing import NamedTuple

from normlab.errors import UserError

HINT = "start several processes with `torchrun --nproc_per_node=N train.py ...`"


class Place(NamedTuple):
    """Which of the processes this one is."""

    rank: int
    world_size: int
    local_rank: int  # on this machine: the number of its GPU


def place() -> Place:
    """Returns what torchrun or submitit say of this process; without them it is the only one.

    Raises UserError when what they say is incomplete.
    """
    if "SUBMITIT_EXECUTOR" in os.environ and "RANK" not in os.environ:
        return _submitit_place()
    if "WORLD_SIZE" not in os.environ:
        return Place(0, 1, 0)
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in names if name not in os.environ]:
        raise UserError(f"WORLD_SIZE is set but {missing[0]} is not: {HINT}.")
    return Place(*(int(os.environ[name]) for name in names[:3]))


def _submitit_place() -> Place:
    import submitit

    job = submitit.JobEnvironment()
    if job.num_tasks > 1:
        os.environ.setdefault("MASTER_ADDR", job.hostnames[0])
        # The same for all tasks of a job, another for jobs beside it.
        digits = int("".join(filter(str.isdigit, job.job_id)) or 0)
        os.environ.setdefault("MASTER_PORT", str(20000 + digits % 40000))
    return Place(job.global_rank, job.num_tasks, job.local_rank)


def starts_first() -> bool:
    """Returns whether torchrun started this process as the first, or nobody started several."""
    return int(os.environ.get("RANK", "0")) == 0


def quiet_arguments(arguments: list[str]) -> list[str]:
    """Returns the command line of this process: under torchrun all but the first log nothing.

    Hydra makes an output directory for each process, by its clock; only the first one's is used.
    """
    if starts_first():
        return arguments
    silent = ["hydra.run.dir=.", "hydra/job_logging=none", "hydra/hydra_logging=none"]
    return [*arguments, *silent]
