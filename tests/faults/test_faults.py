"""Each fault once or twice; `make test-faults` does them all."""

import random

import pytest

from faults import FAULTS
from faults.outcomes import LOST, WRONG, NotHere


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults")


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_nothing_is_lost_and_no_number_is_wrong(fault, folder):
    place = folder / str(FAULTS.index(fault))
    place.mkdir()
    try:
        outcomes = list(fault.body(place, fault.short, random.Random(7)))
    except NotHere as reason:
        pytest.skip(str(reason))
    assert outcomes
    assert not [outcome for outcome in outcomes if outcome.kind in (LOST, WRONG)]
