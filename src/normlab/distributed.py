"""Several processes that train one run: who is who, and what they tell each other.

Started by torchrun or as the tasks of a submitit job. Every process holds the whole model
(DistributedDataParallel): at the sizes of this project nothing is gained by sharding parameters,
which begins to pay when weights, gradients and Adam's moments (16 bytes per parameter) no longer
fit beside the activations, at some billions of parameters per device. In a single process every
function here does nothing, or returns what it was given.
"""

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from normlab.errors import UserError
from normlab.ranks import HINT, Place

# Seconds: a process that is silent for longer ends the run. Long enough for what one does while the
# others wait: a checkpoint on a slow disk, W&B's start, code that is compiled on one machine and
# cached on the other. One that dies is noticed at once.
TIMEOUT = 600.0
# The same while data are read: encoding a large corpus takes one process longer than another.
SETUP_TIMEOUT = 3600.0
# How gloo and NCCL say that a peer is gone or silent.
LOST = re.compile(r"peer|[Tt]imed out|[Tt]imeout|NCCL|Gloo|gloo")
T = TypeVar("T")
_ABSENT = object()

_patient: "dist.ProcessGroup | None" = None  # all processes, with SETUP_TIMEOUT


@contextmanager
def joined(here: Place, device: str = "auto") -> Iterator[None]:
    """Connects the processes of a run; those but the first log nothing but their own failure.

    Tensors on a CPU are exchanged by gloo, those on GPUs by NCCL; `device` is the config's
    trainer.device. Raises UserError when the processes cannot be connected, or outnumber the GPUs.
    """
    global _patient
    if here.world_size == 1 or dist.is_initialized():
        yield
        return
    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus and not dist.is_nccl_available():
        raise UserError("this torch has no NCCL, which GPUs talk through: set trainer.device=cpu.")
    there = torch.cuda.device_count() if on_gpus else 0
    # Slurm may show each of its tasks one GPU only, its own; torchrun (RANK) shows all of them.
    own = there == 1 and "SLURM_GPUS_PER_TASK" in os.environ and "RANK" not in os.environ
    gpu = 0 if own else here.local_rank
    if on_gpus and gpu >= there:
        raise UserError(
            f"process {here.local_rank} has no GPU, this machine has {there}: start at most "
            f"{there} processes on it, or set trainer.device=cpu."
        )
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    if on_gpus:
        torch.cuda.set_device(gpu)
    timeout = timedelta(seconds=float(os.environ.get("NORMLAB_TIMEOUT", TIMEOUT)))
    try:
        dist.init_process_group(
            backend, rank=here.rank, world_size=here.world_size, timeout=timeout
        )
        _patient = dist.new_group(backend="gloo", timeout=timedelta(seconds=SETUP_TIMEOUT))
    except (dist.DistError, RuntimeError, ValueError) as error:
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"the {here.world_size} processes cannot be connected at {where} ({reason}): {HINT}, "
            "or choose another port (--master_port)."
        ) from error
    if here.rank:
        logging.getLogger().handlers.clear()
    try:
        yield
    except BaseException:
        if on_gpus:
            _abort_nccl()
        raise
    finally:
        _patient = None
        dist.destroy_process_group()


def _abort_nccl() -> None:
    """Drops the exchanges under way, which a lost peer never ends: leaving would wait for them.

    The names are torch's own, not public; without them the wait ends with NCCL's time limit.
    """
    with suppress(AttributeError, RuntimeError):
        dist.distributed_c10d._get_default_group()._get_backend(torch.device("cuda")).abort()


def rank() -> int:
    """Returns the number of this process; 0 is the one that writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


@contextmanager
def leading() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields the function by which the first process tells the others what to do, once.

    If it fails before that, they are told to end. If another process is lost later on, what the
    first one sees of it becomes a UserError.
    """
    told = False

    def tell(order: dict[str, Any]) -> None:
        nonlocal told
        told = True
        from_first(order, _patient)  # who writes may read the data of a finished run first

    try:
        yield tell
    except BaseException as error:
        if not told:
            from_first({"error": str(error)}, _patient)
        raise


def follow() -> dict[str, Any]:
    """Returns what the first process tells the others; raises UserError when it has failed."""
    order: dict[str, Any] = from_first({}, _patient)
    if "error" in order:
        raise UserError(order["error"])
    return order


@contextmanager
def lost_process_in_words() -> Iterator[None]:
    """Turns what gloo and NCCL raise when another process is gone or silent into a UserError."""
    try:
        yield
    except RuntimeError as error:
        if world_size() > 1 and LOST.search(str(error)):
            raise UserError(
                "another process of this run has failed or does not answer; what it said stands "
                "above. Start the same command again to go on from the last checkpoint."
            ) from error
        raise


def share(items: Sequence[T]) -> Sequence[T]:
    """Returns this process's part of `items`."""
    return items[rank() :: world_size()]


def total(values: Tensor) -> Tensor:
    """Returns the sum of `values` over all processes."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def gather(value: T, group: "dist.ProcessGroup | None" = None) -> list[T]:
    """Returns the `value` of every process, in their order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value, group)
    return values


def from_first(value: T, group: "dist.ProcessGroup | None" = None) -> T:
    """Returns the `value` of the first process."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0, group=group)
    return values[0]


def any_of(*flags: bool) -> list[bool]:
    """Returns for each flag whether it is set in any process; does not wait for a GPU."""
    if world_size() == 1:
        return list(flags)
    values = torch.tensor(flags, dtype=torch.int32)
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values]


def replicated(objective: nn.Module) -> DistributedDataParallel:
    """Returns `objective` so that gradients become their mean over all processes.

    Raises UserError for a module whose state depends on the batch that each process sees.
    """
    for name, module in objective.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise UserError(
                f"{type(module).__name__} ({name}) has running statistics, which several processes "
                "would each keep for themselves: train it with one process."
            )
    on_gpu = next(objective.parameters()).is_cuda
    return DistributedDataParallel(
        objective, device_ids=[torch.cuda.current_device()] if on_gpu else None
    )


def synchronised(objective: nn.Module, last: bool) -> AbstractContextManager:
    """Returns the context for one of several batches of a step: gradients meet after the last."""
    if isinstance(objective, DistributedDataParallel) and not last:
        return objective.no_sync()
    return nullcontext()


def same_everywhere(name: str, values: dict[str, Any]) -> None:
    """Raises UserError in every process when they have not all the same `values`.

    Waits up to an hour for the slowest.
    """
    first, *others = gather(values, _patient)
    for number, other in enumerate(others, start=1):
        keys = sorted(first.keys() | other.keys())
        if different := [key for key in keys if first.get(key, _ABSENT) != other.get(key, _ABSENT)]:
            raise UserError(
                f"process {number} has other {name} than process 0 ({', '.join(different)}): "
                "all of them must read the same."
            )
