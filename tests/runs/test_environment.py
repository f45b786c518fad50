"""What a run sets up before it computes."""

import platform

import pytest
from processes import python

FAULTS = """
import resource, sys, torch
from normlab.runs.environment import prepare_cpu

def step():
    tensors = [torch.ones(3_000_000) for _ in range(4)]  # 48 MB, freed together

if sys.argv[1] == "prepared":
    prepare_cpu()
step(), step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_memory_that_a_step_frees_is_there_for_the_next():
    faults = {how: int(python("-c", FAULTS, how).stdout) for how in ("prepared", "as it is")}
    assert faults["prepared"] < 100 < faults["as it is"]
