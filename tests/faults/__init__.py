"""The fault suite: what can happen to a run, and that no fault ends in a loss or a wrong number.

Each fault is a function that does it some times over and yields one outcome a time (outcomes.py).
`python -m faults` (make test-faults) does them all and writes results/faults.md; test_faults.py
does each once or twice.
"""

from faults import corpora, damage, disks, fuzz, kernels, killing, ranks  # noqa: F401
from faults.outcomes import FAULTS

__all__ = ["FAULTS"]
