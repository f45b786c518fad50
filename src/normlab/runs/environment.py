"""Where a run runs: code version, device, threads."""

import ctypes
import os
import platform
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from normlab.errors import UserError

if TYPE_CHECKING:
    import torch


def code_version() -> str | None:
    """Returns the commit of the code that runs, "+changes" added when it is not exactly that.

    It is found once a process: a commit made meanwhile does not change the code in memory.
    """
    try:
        return _code_version()
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def _code_version() -> str:
    here = Path(__file__).parent.parent  # the package
    git = partial(subprocess.run, cwd=here, capture_output=True, text=True, check=True, timeout=20)
    git(["git", "ls-files", "--error-unmatch", __file__])  # else the repository is not ours
    commit = git(["git", "rev-parse", "HEAD"]).stdout.strip()
    outputs = ":(top,exclude)results"  # reports of earlier runs are no change of the code
    # Without locks: a commit made meanwhile would fail.
    status = ["git", "--no-optional-locks", "status", "--porcelain"]
    changed = git([*status, "--untracked-files=no", "--", ":/", outputs]).stdout.strip()
    ours = [here, ":/experiments", ":/conf"]  # which the package has links to
    changed += git([*status, "--untracked-files=all", "--", *ours]).stdout.strip()  # new files
    return commit + ("+changes" if changed else "")


def prepare() -> None:
    """Sets how this process computes; to be called before torch starts any thread.

    Denormals become zero: they slow a CPU 2.5 times where activations vanish, and threads inherit
    the setting from the one that makes them. And glibc keeps freed memory: it gives it back to the
    system after each step otherwise, and the next step takes thousands of page faults. On a GPU
    fp32 means fp32: torch's default rounds convolutions to TF32, an environment may do so for
    matrix products, and near 0.2 TF32 has steps of 1e-4, where weights differ by 1e-2. There,
    attention is not cuDNN's, which torch prefers in bf16 on recent GPUs: it makes a plan for each
    new shape, and batches of sentences have thousands.
    """
    import torch

    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.set_flush_denormal(True)
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        trim_threshold, mmap_threshold = -1, -3
        libc = ctypes.CDLL(None)
        # Before 2.35 glibc refuses more than 32 MiB; the other option alone would freeze its own
        # threshold at 128 KiB, and each tensor would be mapped anew.
        if libc.mallopt(mmap_threshold, 1 << 30) or libc.mallopt(mmap_threshold, 1 << 25):
            libc.mallopt(trim_threshold, 1 << 30)


def set_threads(threads: int | None) -> None:
    """Sets the number of CPU threads; None leaves torch's own."""
    import torch

    if threads is None:
        return
    if threads > (most := 8 * (os.cpu_count() or 1)):
        raise UserError(f"trainer.threads={threads} is more than {most}, 8 per core: lower it.")
    torch.set_num_threads(threads)


def device_of(name: str) -> "torch.device":
    """Returns the device that `auto`, `cpu` or `cuda` means; raises UserError without a GPU."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("trainer.device=cuda, but torch sees no GPU: use trainer.device=cpu.")
    return torch.device(name)


def memory_of(device: "torch.device") -> float:
    """Returns the memory of `device` in bytes."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def device_name(device: "torch.device") -> str:
    """Returns the device as a reader would name it: the GPU's model, or the CPU and its threads."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu, {torch.get_num_threads()} threads"
