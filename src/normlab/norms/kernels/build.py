"""Builds the CPU kernels once for this machine and torch, and loads them."""

import hashlib
import logging
import os
import platform
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

from normlab.norms.kernels import meta

log = logging.getLogger(__name__)

HERE = Path(__file__).parent
SOURCES = ("norms.cpp", "gru.cpp")
# Fast maths without -ffinite-math-only: a NaN must come out as one, divergence is a result.
FLAGS = (
    "-std=c++20", "-O3", "-march=native", "-fPIC", "-fopenmp", "-fno-math-errno",
    "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros", "-freciprocal-math",
)  # fmt: skip


@cache
def error() -> str | None:
    """Loads the CPU kernels, building them if need be; returns why that failed, None if it did not.

    The library is kept in $NORMLAB_CACHE/kernels (default ~/.cache/normlab), under a name that
    says which source, torch, compiler and processor it is for.
    """
    compiler = os.environ.get("CXX", "g++")
    problem = _load(compiler)
    if problem is not None:
        log.warning("No fused norms here (%s): norms take another implementation.", problem)
    return problem


def _load(compiler: str) -> str | None:
    try:
        version = _run([compiler, "--version"])
        folder = Path(os.environ.get("NORMLAB_CACHE", "~/.cache/normlab")).expanduser() / "kernels"
        texts = [(HERE / name).read_text() for name in ("common.h", *SOURCES)]
        key = (*texts, torch.__version__, version, _processor(), *FLAGS)
        name = hashlib.sha256("\0".join(key).encode()).hexdigest()[:16]
        library = folder / f"norms-{name}.so"
        if not library.exists():
            log.info("Building the fused norms with %s, once: some 20 seconds.", compiler)
            folder.mkdir(parents=True, exist_ok=True)
            _build(compiler, library)
        torch.ops.load_library(str(library))
    except OSError as problem:
        return f"{compiler}: {problem}"
    except subprocess.CalledProcessError as problem:
        lines = [line for line in problem.stderr.split("\n") if "error" in line]
        return f"{compiler}: {lines[0] if lines else problem}"
    for name in ("norm", "add_norm", "norm_backward", "gru", "gru_backward"):
        torch.library.register_fake(f"normlab::{name}", getattr(meta, name))
    return None


def _build(compiler: str, library: Path) -> None:
    root = Path(torch.__file__).parent
    include = [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include"]
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    # Built beside its place and moved there whole: two processes may build at the same time. Not
    # linked with -fopenmp: OpenMP then is torch's own, whose threads the kernels share.
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = [f"{folder}/{name}.o" for name in SOURCES]
        compiling = [
            [compiler, *FLAGS, abi, *include, "-c", str(HERE / name), "-o", output]
            for name, output in zip(SOURCES, made, strict=True)
        ]
        with ThreadPoolExecutor() as pool:
            list(pool.map(_run, compiling))
        linked = f"{folder}/norms.so"
        libraries = [f"-L{root}/lib", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{root}/lib", "-lm"]
        _run([compiler, "-shared", *made, "-o", linked, *libraries])
        os.replace(linked, library)


def _run(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _processor() -> str:
    """Returns what -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n")
        return next(line for line in lines if line.startswith("flags"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
