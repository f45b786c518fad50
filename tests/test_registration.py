"""Registrations: arms, hashes, and what cannot be registered."""

from pathlib import Path

import pytest

from normlab.errors import UserError
from normlab.registration import MIN_POWER, MIN_SEEDS, digest, read_registrations

SPEC = """
title = "T"
[claims]
same = "RMSNorm is like LayerNorm"
other = "another sentence"
[findings]
multi30k = "what we saw"
[registrations.multi30k]
seeds = [1, 2, 3, 4, 5, 6]
data = "toy"
steps = 100
grid = {norm = ["layernorm", "rmsnorm"], "init.apply_to" = [[], ["all"]]}
[[registrations.multi30k.hypotheses]]
claim = "same"
rule = "equal"
metric = "dev/nll"
margin = 0.1
floor = 3.0
a = {norm = "rmsnorm"}
b = {norm = "layernorm"}
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        folder = tmp_path / "t"
        folder.mkdir(exist_ok=True)
        (folder / "experiment.toml").write_text(text)
        return folder / "experiment.toml"

    return written


def test_arms_are_the_points_of_the_grid_with_the_norm_last(write):
    (registration,) = read_registrations(write(SPEC))
    arms = registration.arms()
    assert arms[0] == (("init.apply_to", ()), ("norm", "layernorm")) and len(arms) == 4
    assert registration.select({"norm": "rmsnorm", "init.apply_to": ["all"]}) == [arms[3]]
    assert registration.select({"norm": "rmsnorm"}) == [arms[1], arms[3]]


def test_only_the_listed_arms_of_a_grid_when_some_are_listed(write):
    only = 'only = [{norm = "rmsnorm", "init.apply_to" = ["all"]}, {"init.apply_to" = []}]\n'
    (registration,) = read_registrations(
        write(SPEC.replace("steps = 100\n", "steps = 100\n" + only))
    )
    assert [dict(arm)["norm"] for arm in registration.arms()] == ["layernorm", "rmsnorm", "rmsnorm"]


def test_the_hash_covers_the_rule_and_the_sentence_and_not_layout_or_findings(write):
    def hashed(text):
        return digest(write(text).parents[1], "t/multi30k")

    first = hashed(SPEC)
    assert len(first) == 64
    assert hashed("# a comment\n" + SPEC.replace("what we saw", "something else")) == first
    assert hashed(SPEC.replace("another sentence", "x")) == first  # of a claim that is not tested
    for old, new in (
        ("margin = 0.1", "margin = 0.2"),
        ("dev/nll", "dev/bleu"),
        ("is like", "beats"),
        ("5, 6]", "5, 7]"),
    ):
        assert hashed(SPEC.replace(old, new)) != first


def test_a_registration_carries_its_hash(write):
    path = write(SPEC)
    (registration,) = read_registrations(path)
    assert registration.sha256 == digest(path.parents[1], registration.name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'rule = "equal"',
            'rule = "nicer"',
            "no rule nicer; choose one of greater, reaches",
        ),
        ("floor = 3.0\n", "", "equal needs a floor"),
        ('metric = "dev/nll"\n', "", "needs a metric"),
        ('claim = "same"', 'claim = "sane"', r"claim sane: no such key in \[claims\]"),
        ('a = {norm = "rmsnorm"}', 'a = {norm = "none"}', "has no arm"),
        ("margin = 0.1", "margni = 0.1", "hypotheses has no key margni; it knows claim, "),
        ("steps = 100", 'rule = "equal"', r"has no key rule: it belongs to a claim, in \[\["),
        ("grid = {", "settings = {", "has no grid: say what its sweep varies"),
        ("seeds = [", "seeds = ", "is not an experiment"),
    ],
)
def test_what_cannot_be_tested_cannot_be_registered(write, old, new, message):
    with pytest.raises(UserError, match=message):
        list(read_registrations(write(SPEC.replace(old, new))))


def test_an_unknown_registration_is_an_error(write):
    root = write(SPEC).parents[1]
    with pytest.raises(UserError, match="no registration t/paper"):
        digest(root, "t/paper")
    with pytest.raises(UserError, match="no experiment u"):
        digest(root, "u/paper")


COMMITTED = [
    registration
    for path in sorted((Path(__file__).parents[1] / "experiments").glob("*/experiment.toml"))
    for registration in read_registrations(path)
]


@pytest.mark.parametrize("registration", COMMITTED, ids=lambda each: each.name)
def test_every_registered_claim_has_its_seeds_and_its_power(registration):
    for hypothesis in registration.hypotheses:
        assert len(registration.seeds) >= MIN_SEEDS
        assert hypothesis.power is not None and hypothesis.power >= MIN_POWER
    if registration.scale == "paper":
        assert len(registration.seeds) >= MIN_SEEDS and "GPU hours" in registration.cost()
