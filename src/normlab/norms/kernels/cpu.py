"""Builds the CPU kernels once for this machine and torch, and loads them.

To run them under AddressSanitizer, set NORMLAB_SANITIZE=address; Python itself is not built with
it, so its library comes first:

    NORMLAB_SANITIZE=address ASAN_OPTIONS=detect_leaks=0 \\
        LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" \\
        python -m pytest tests/norms/test_fuzz.py
"""

import fcntl
import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch

from normlab.norms.kernels import gradients, shapes

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SOURCES = ("norms.cpp", "planes.cpp", "gru.cpp")
# Fast maths without -ffinite-math-only: a NaN must come out as one, divergence is a result.
FLAGS = [
    "-std=c++20",
    "-O3",
    "-march=native",
    "-fPIC",
    "-fopenmp",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fassociative-math",
    "-fno-signed-zeros",
    "-freciprocal-math",
]


@cache
def load() -> str | None:
    """Loads the CPU kernels, building them if need be; returns why that failed, None if it did not.

    The library is kept in $NORMLAB_CACHE/kernels (default ~/.cache/normlab), under a name that
    says which source, torch, processor, flags and compiler it is for.
    """
    problem = _load(os.environ.get("CXX", "g++"))
    if problem is not None:
        log.warning("No fused norms here (%s): norms take another implementation.", problem)
    return problem


def library(compiler: str) -> Path:
    """Returns the path of the kernels' library, whole and for this machine; builds it if need be.

    One process builds and the others wait for it. A library that differs from its checksum (cut
    short by a full disk, say) is built again: loading it could end the process. Without a compiler
    any library of these sources will do, whichever compiler made it. Raises OSError or
    CalledProcessError when there is none and it cannot be built.
    """
    try:
        cache_dir = Path(os.environ.get("NORMLAB_CACHE", "~/.cache/normlab")).expanduser()
    except RuntimeError as homeless:
        raise OSError(str(homeless)) from homeless
    folder = cache_dir / "kernels"
    texts = [(HERE / name).read_text(encoding="utf-8") for name in ("common.h", *SOURCES)]
    name = f"norms-{_hash(*texts, torch.__version__, _processor(), *_flags())}"
    try:
        version = _run([compiler, "--version"])
    except (OSError, subprocess.CalledProcessError):
        for made in sorted(folder.glob(f"{name}-*.so")):
            if _whole(made):
                return made
        raise
    path = folder / f"{name}-{_hash(version)}.so"
    if not _whole(path):
        folder.mkdir(parents=True, exist_ok=True)
        with _lock(path.with_suffix(".lock")):
            if not _whole(path):  # another process may have built it meanwhile
                log.info("Building the fused norms with %s, once: some 20 seconds.", compiler)
                _build(compiler, path)
    return path


def _load(compiler: str) -> str | None:
    try:
        torch.ops.load_library(str(library(compiler)))
    except OSError as problem:
        return f"{compiler}: {problem}"
    except subprocess.CalledProcessError as problem:
        lines = [line for line in problem.stderr.split("\n") if "error" in line]
        return f"{compiler}: {lines[0] if lines else problem}"
    for name in ("norm", "add_norm", "norm_backward", "plane_norm", "gru", "gru_backward"):
        torch.library.register_fake(f"normlab::{name}", getattr(shapes, name))
    torch.library.register_fake("normlab::plane_norm_backward", shapes.norm_backward)
    gradients.register("normlab", "plane_norm")
    return None


def _build(compiler: str, path: Path) -> None:
    root = Path(torch.__file__).parent
    include = [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    flags = _flags()
    # Built beside its place and moved there whole. Not linked with -fopenmp: OpenMP then is
    # torch's own, whose threads the kernels share.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = [f"{folder}/{name}.o" for name in SOURCES]
        compiling = [
            [compiler, *flags, abi, *include, "-c", str(HERE / name), "-o", output]
            for name, output in zip(SOURCES, made, strict=True)
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, compiling))
        linked, checksum = Path(folder, "norms.so"), Path(folder, "norms.sha256")
        libraries = [f"-L{root}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root}/lib", "-lm"]
        sanitize = [flag for flag in flags if flag.startswith("-fsanitize")]
        _run([compiler, "-shared", *sanitize, *made, "-o", str(linked), *libraries])
        checksum.write_text(_checksum(linked), encoding="ascii")
        os.replace(linked, path)
        os.replace(checksum, path.with_suffix(".sha256"))


def _whole(path: Path) -> bool:
    """Whether the library is there and is what was written when it was built."""
    try:
        return path.with_suffix(".sha256").read_text(encoding="ascii") == _checksum(path)
    except (OSError, UnicodeDecodeError):
        return False


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Holds the lock file `path`: the system lets go of it when the process ends, however."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _flags() -> list[str]:
    sanitizer = os.environ.get("NORMLAB_SANITIZE")
    return [*FLAGS, f"-fsanitize={sanitizer}", "-g"] if sanitizer else FLAGS


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:16]


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _processor() -> str:
    """Returns what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
        return next(line for line in lines if line.startswith(("flags", "Features")))  # x86, ARM
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
