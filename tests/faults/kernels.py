"""The library of fused norms: built by several at once, cut short, replaced by garbage."""

import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from faults.children import Child, say, told
from faults.outcomes import LOST, SURVIVED, WRONG, NotHere, Outcome, fault
from faults.scenes import refused


def use(cache: Path) -> None:
    """Says which implementation norms have, how many compilers ran, and what a norm gives."""
    import os

    os.environ["NORMLAB_CACHE"] = str(cache)
    import torch

    from normlab.norms import RMSNorm
    from normlab.norms.kernels import cpu

    runs: list[str] = []
    kept = cpu._build
    cpu._build = lambda *arguments: (runs.append("built"), kept(*arguments))[1]
    norm = RMSNorm(8)
    x = torch.arange(16.0).view(2, 8)
    expected = x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    close = torch.allclose(norm(x), expected, atol=1e-5)
    say([norm.implementation(torch.device("cpu")), len(runs), close])


def _start(cache: Path, number: int) -> Child:
    return Child(partial(use, cache), cache.with_name(f"{cache.name}.{number}.log"))


@fault("three cold kernel builds at once", full=2, short=1)
def builders(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Starts three processes with an empty cache: one builds, all have the same library."""
    if shutil.which("g++") is None:
        raise NotHere("there is no compiler")
    for number in range(tries):
        cache = folder / f"cache{number}"
        children = [_start(cache, n) for n in range(3)]
        codes = [child.wait(600) for child in children]
        results = [told(child) for child in children]
        note = f"exit codes {codes}, {results}"
        if any(codes) or None in results:
            yield Outcome(LOST, note)
        elif sum(r[1] for r in results) != 1 or any(r[0] != "fused" or not r[2] for r in results):
            yield Outcome(WRONG, note)
        else:
            yield Outcome(SURVIVED, note)


@fault("a damaged kernel library", full=3, short=1)
def garbage(folder: Path, tries: int, rng: random.Random) -> Iterator[Outcome]:
    """Cuts the library short, flips a bit or writes garbage: it is built again, or said."""
    if shutil.which("g++") is None:
        raise NotHere("there is no compiler")
    cache = folder / "cache"
    child = _start(cache, 0)
    if child.wait(600) != 0:
        yield refused(child, child.process.exitcode, "the first build")
        return
    library = next((cache / "kernels").glob("*.so"))
    for number in range(tries):
        content = bytearray(library.read_bytes())
        how = ("cut short", "a flipped bit", "garbage")[number % 3]
        if how == "a flipped bit":
            content[rng.randrange(len(content))] ^= 4
        library.write_bytes(
            {"cut short": content[: len(content) // 2], "garbage": b"garbage" * 9}.get(how, content)
        )
        child = _start(cache, number + 1)
        code, result = child.wait(600), told(child)
        if code or result is None:
            yield Outcome(LOST, f"{how}: exit code {code}; {child.output()[-300:]}")
        elif not result[2] or result[0] != "fused":
            yield Outcome(WRONG, f"{how}: {result}")
        else:
            yield Outcome(SURVIVED, f"{how}: {result}")
