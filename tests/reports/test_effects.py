"""Main effects and interactions: what was put into made-up values comes out of them."""

import itertools
from pathlib import Path

import pytest

from normlab.registration import Arm
from normlab.reports.effects import contrast, contrasts, effect_rows, is_factorial
from normlab.reports.experiments import Effects, read_experiment

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SPEC = Effects(
    "dev/nll",
    {
        "re-centring": [{"norm": "recentre"}, {"norm": "layernorm"}],
        "re-scaling": [{"norm": "rmsnorm"}, {"norm": "layernorm"}],
        "bias": [{"norm.bias": True}],
    },
    within="init.mean",
    crossed=["re-centring", "re-scaling"],
)
HAS = {"affine": (0, 0), "recentre": (1, 0), "rmsnorm": (0, 1), "layernorm": (1, 1)}


def arm(norm: str, bias: bool) -> Arm:
    return (("norm.bias", bias), ("init.mean", 0), ("norm", norm))


def made_up() -> dict[Arm, dict[int, float | None]]:
    """Returns 3 - 0.5 C - 1.0 S + 0.25 B + 0.4 CS + 0.2 CSB, the seed's own level added."""
    found = {}
    for norm, bias in itertools.product(HAS, (False, True)):
        c, s, b = *HAS[norm], int(bias)
        value = 3 - 0.5 * c - s + 0.25 * b + 0.4 * c * s + 0.2 * c * s * b
        found[arm(norm, bias)] = {seed: value + seed for seed in (1, 2)}
    return found


@pytest.mark.parametrize(
    ("factors", "effect"),
    [
        # the mean over the other factors' two values: 0.4 / 2 and 0.2 / 4 of the products count
        (("re-centring",), -0.5 + 0.4 / 2 + 0.2 / 4),
        (("re-scaling",), -1.0 + 0.4 / 2 + 0.2 / 4),
        (("bias",), 0.25 + 0.2 / 4),
        (("re-centring", "re-scaling"), 0.4 + 0.2 / 2),
        (("re-centring", "bias"), 0.2 / 2),
        (("re-centring", "re-scaling", "bias"), 0.2),
    ],
)
def test_effects_are_those_the_values_were_made_with(factors: tuple[str, ...], effect: float):
    assert contrast(SPEC, factors, made_up()) == pytest.approx({1: effect, 2: effect})


def test_only_arms_with_every_combination_once_have_effects():
    every = list(made_up())
    elsewhere = [tuple((k, 0.2 if k == "init.mean" else v) for k, v in each) for each in every]
    assert is_factorial(SPEC, every) and is_factorial(SPEC, [*every, *elsewhere])
    assert not is_factorial(SPEC, every[:-1])
    assert not is_factorial(SPEC, [*every, *elsewhere[1:]])
    assert not is_factorial(SPEC, [*every[:-1], every[0]])
    twice = [(*each, ("schedule.lr", lr)) for each in every for lr in (1e-3, 4e-3)]
    assert not is_factorial(SPEC, twice)
    fixed = [tuple(pair for pair in each if pair[0] != "init.mean") for each in every]
    assert not is_factorial(SPEC, fixed) and not is_factorial(SPEC, [])


def test_effects_with_and_without_another_factor():
    rows = {name: arms for name, _, arms in contrasts(SPEC, list(made_up()))}
    words = "re-centring, with re-scaling", "re-centring, without re-scaling"
    with_it, without = (
        contrast(SPEC, ("re-centring",), {a: made_up()[a] for a in rows[each]}) for each in words
    )
    assert with_it == pytest.approx({1: -0.5 + 0.4 + 0.2 / 2, 2: -0.5 + 0.4 + 0.2 / 2})
    assert without == pytest.approx({1: -0.5, 2: -0.5})


def test_a_diverged_run_leaves_the_effects_that_do_not_need_it():
    measured = made_up()
    measured[arm("affine", False)][2] = None
    assert contrast(SPEC, ("bias",), measured) == {}
    rows = effect_rows(SPEC, [measured])  # those of dashes alone are left out
    assert [name for name, _ in rows] == [
        "re-centring, with re-scaling",
        "re-scaling, with re-centring",
        "bias, with re-centring and with re-scaling",
        "bias, with re-centring and without re-scaling",
        "bias, without re-centring and with re-scaling",
    ]
    assert rows[2][1] == "+0.45 (n=2)" and rows[4][1] == "+0.25 (n=2)"


def test_a_seed_that_an_arm_lacks_is_left_out():
    measured = made_up()
    del measured[arm("rmsnorm", True)][1]
    assert set(contrast(SPEC, ("bias",), measured)) == {2}


def test_the_factorial_names_arms_of_its_grid():
    experiment = read_experiment("factorial", EXPERIMENTS)
    registration = experiment.registrations["multi30k"]
    assert experiment.effects is not None
    for selections in experiment.effects.factors.values():
        assert sum(len(registration.select(each)) for each in selections) == 8
