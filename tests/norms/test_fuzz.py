"""No call of a fused norm is undefined behaviour: it gives the composed norm's result or an error.

kernels/cpu.py says how to run this under AddressSanitizer.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from normlab.norms.kernels import cpu

FUZZ = Path(__file__).with_name("fuzz.py")


@pytest.mark.slow
@pytest.mark.skipif(cpu.load() is not None, reason=f"no kernels: {cpu.load()}")
def test_random_calls_give_the_composed_result_or_a_clear_error():
    done = subprocess.run([sys.executable, FUZZ, "1600", "5"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert sum(counts.values()) == 1600
    for kind in ("layer", "operator", "gru", "planes"):  # both ends are reached, in every kind
        assert counts[f"{kind} result"] > 50 and counts[f"{kind} error"] > 50
