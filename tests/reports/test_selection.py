"""One table, one setting: what differs in more than arm and seed is set apart and named."""

from dataclasses import replace

import pytest
from synthetic import COMMIT, CONTENTS, write_run

from normlab.registration import Hypothesis, Registration
from normlab.reports.records import read_record
from normlab.reports.selection import _difference, select

SHA = "5" * 64
REGISTERED = {"registration": {"experiment": "t/multi30k", "sha256": SHA}}


@pytest.fixture
def registration():
    return Registration(
        "t",
        "multi30k",
        SHA,
        [1, 2, 3],
        "toy",
        steps=100,
        grid={"norm": ["layernorm", "rmsnorm"]},
        hypotheses=[Hypothesis("c", "greater", {}, {}, metric="dev/nll")],
        settings={"trainer.max_steps": 100, "norm.eps": 1e-6},
    )


@pytest.fixture
def add(tmp_path):
    """Returns a function that adds one record: a registered one, but for what it is given."""
    records = []

    def one(norm="rmsnorm", seed=1, status="completed", config=None, folder="x", **summary):
        path = write_run(tmp_path / folder, norm, seed, status, config, REGISTERED | summary)
        records.append(read_record(path))
        return records

    for norm in ("layernorm", "rmsnorm"):
        for seed in (1, 2):
            one(norm, seed)
    return one


def test_registered_runs_of_one_setting_make_the_table(registration, add):
    found = select(registration, add(seed=3))
    assert [run.path.name for run in found.runs] == [
        "layernorm_1_",
        "layernorm_2_",
        "rmsnorm_1_",
        "rmsnorm_2_",
        "rmsnorm_3_",
    ]
    assert (len(found.runs), found.expected, found.complete, found.apart) == (5, 6, False, [])


def test_the_runs_of_an_arm_stand_in_the_order_of_their_seeds(registration, add):
    found = select(registration, add(seed=3)[::-1])
    seeds = [[run.value("seed") for run in runs] for runs in found.arms.values()]
    assert sorted(seeds) == [[1, 2], [1, 2, 3]]


def test_a_run_that_diverged_early_belongs_to_its_arm(registration, add):
    found = select(registration, add(seed=3, status="diverged", steps=40))
    assert len(found.runs) == 5 and found.apart == []


def test_of_many_differences_two_are_shown_and_the_others_counted():
    this, usual = dict.fromkeys("abcde", 1), dict.fromkeys("abcde", 2)
    assert _difference(this, usual) == "a is 1, elsewhere 2, b is 1, elsewhere 2 and 3 more"
    assert _difference({"a": 1}, {"a": 2}) == "a is 1, elsewhere 2"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"registration": None}, "not started under this registration"),
        ({"registration": {"sha256": "6" * 64}}, "not started under this registration"),
        (  # resumed after the registration had been changed
            {"segments": [{"commit": COMMIT, "registration": {"sha256": "6" * 64}}]},
            "not started under this registration",
        ),
        ({"commit": COMMIT + "+changes"}, "commit cccccccccc+changes"),
        ({"commit": None}, "commit unknown (no git)"),
        ({"segments": [{"commit": "d" * 40 + "+changes"}, {"commit": COMMIT}]}, "+changes"),
        ({"seed": 4}, "seed 4 was not registered"),
        ({"norm": "none"}, "no registered arm"),
        ({"norm_impl": "fused"}, "norm_impl is fused, elsewhere composed"),
        ({"steps": 90}, "90 steps, registered 100"),
        ({"status": "failed"}, "failed"),
        ({"config": {"trainer.max_steps": 50}}, "trainer.max_steps is 50, registered 100"),
        ({"config": {"norm.eps": 1e-5}}, "norm.eps is 1e-05, registered 1e-06"),
        ({"commit": "d" * 40}, "commit is dddddddddd, elsewhere cccccccccc"),
        ({"torch": "3"}, "torch is 3, elsewhere 2"),
        ({"device": "NVIDIA H200"}, "device is NVIDIA, elsewhere cpu"),
        (  # half of it
            {"segments": [{"commit": COMMIT, "torch": "1", "device": "NVIDIA A100"}]},
            "device is NVIDIA, cpu, elsewhere cpu, torch is 1, 2, elsewhere 2",
        ),
        ({"contents": CONTENTS | {"train": {"sha256": "a2"}}}, "data.contents.train.sha256 is a2"),
        ({"config": {"schedule.lr": 0.1}}, "schedule.lr is 0.1, elsewhere None"),
        ({"config": {"norm.bias": True}}, "norm.bias is True, elsewhere None"),
    ],
)
def test_what_is_no_run_of_the_table_is_set_apart_with_the_reason(
    registration, add, change, reason
):
    ((run, why),) = select(registration, add(**{"seed": 3, **change})).apart
    assert reason in why and run.summary["norm"] in ("rmsnorm", "none")


def test_test_sets_are_equal_in_number_and_content(registration, add):
    shorter = {"test/test": {"sha256": "d3", "sentences": 999}}
    ((_, why),) = select(registration, add(seed=3, contents=CONTENTS | shorter)).apart
    assert why == "data.contents.test/test.sentences is 999, elsewhere 1000"


def test_a_tied_key_has_one_value_in_an_arm(registration, add):
    tied = replace(registration, tied=["schedule.lr"])
    ((run, why),) = select(tied, add(seed=3, config={"schedule.lr": 9.0})).apart
    assert run.value("seed") == 3 and why == "schedule.lr is 9.0, elsewhere None"


def test_a_seed_counts_once(registration, add):
    found = select(registration, add(seed=2, folder="again"))
    assert [why for _, why in found.apart] == ["the same arm and seed as rmsnorm_2_"]


def test_where_files_lay_and_what_runs_are_called_makes_no_difference(registration, add):
    config = {"data.dir": "/another/place", "names.run": "x", "logger.mode": "offline"}
    assert select(registration, add(seed=3, config=config)).apart == []


def test_a_sweep_that_decides_nothing_takes_runs_of_a_tree_with_changes(registration, add):
    smoke = replace(registration, hypotheses=[])
    dirty = COMMIT + "+changes"
    records = [run for run in add(seed=3, commit=dirty) if run.value("seed") == 3]
    assert select(smoke, records).apart == [] and select(registration, records).apart


def test_one_implementation_a_table_but_for_norms_that_are_registered_to_lack_it(registration, add):
    records = add(seed=3)
    fused = [r for r in records if r.summary["norm"] == "layernorm"]
    for run in fused:
        run.summary.update(norm_impl="fused+fused-gru")
    assert {why for _, why in select(registration, records).apart} == {
        "norm_impl is fused, elsewhere composed"
    }
    exempt = replace(registration, implementations={"layernorm": "fused"})
    assert select(exempt, records).apart == []
    wrong = replace(registration, implementations={"layernorm": "native"})
    assert select(wrong, records).apart[0][1] == "layernorm is fused, registered native"
