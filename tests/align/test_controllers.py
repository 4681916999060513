"""The coefficients of the KL penalty and of the reply length."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.align.controllers import AdaptiveKl, EntropyFloor, LengthControl


@pytest.mark.parametrize(
    ("kl", "expected"),
    [
        (6.0, 0.1),  # on target: unchanged
        (6.6, 0.1 * (1 + 0.1 * 64 / 640)),  # a tenth above
        (5.4, 0.1 * (1 - 0.1 * 64 / 640)),
        (60.0, 0.1 * (1 + 0.2 * 64 / 640)),  # the error is limited to 0.2
        (-1.0, 0.1 * (1 - 0.2 * 64 / 640)),
    ],
)
def test_update(kl: float, expected: float) -> None:
    controller = AdaptiveKl(0.1, target=6.0, horizon=640)
    controller.update(kl, num_replies=64)
    assert controller.coefficient == pytest.approx(expected)


def test_it_holds_a_plant_on_target() -> None:
    controller = AdaptiveKl(0.01, target=4.0, horizon=200)
    for _ in range(400):
        controller.update(kl=1 / controller.coefficient, num_replies=64)  # a policy whose drift falls with its cost
    assert 1 / controller.coefficient == pytest.approx(4.0, rel=0.01)


def test_length_has_no_price_at_the_start_and_gains_one_while_replies_are_too_short() -> None:
    control = LengthControl(gain=0.4, rate=0.1)
    control.target = 20.0
    assert control.bonus(torch.tensor([0, 10, 20, 40])).tolist() == [0, 0, 0, 0]
    control.update(mean_length=10.0)
    assert control.coefficient == pytest.approx(0.1 * 0.5 + 0.4 * 0.5)
    assert control.bonus(torch.tensor([0, 10, 20, 40])).tolist() == pytest.approx([-0.25, -0.125, 0, 0.25])
    control.update(mean_length=40.0)
    assert control.coefficient == pytest.approx(0.1 * (0.5 - 1) + 0.4 * -1)


def test_it_holds_a_policy_that_profits_from_short_replies_at_the_target() -> None:
    control = LengthControl(gain=0.5, rate=0.05)
    control.target = 20.0
    length = 20.0
    for _ in range(300):
        length += 4 * (control.coefficient - 0.3)  # the reward model gives 0.3 for a reply of no length
        control.update(length)
    assert length == pytest.approx(20.0, rel=0.01)
    assert control.coefficient == pytest.approx(0.3, rel=0.01)


def test_the_entropy_coefficient_rises_below_the_floor_and_falls_back_above() -> None:
    control = EntropyFloor(0.01, share=0.5, rate=0.1)
    control.update(4.0)  # the first: the floor is 2
    assert control.coefficient == 0.01
    control.update(2.5)
    assert control.coefficient == 0.01
    control.update(1.0)
    assert control.coefficient == pytest.approx(0.01 + 0.1 * 0.5)
    control.update(1.5)
    assert control.coefficient == pytest.approx(0.06 + 0.1 * 0.25)
    control.update(2.4)
    assert control.coefficient == pytest.approx(0.085 - 0.1 * 0.2)
    control.update(4.0)
    assert control.coefficient == 0.01


def test_it_holds_a_policy_that_loses_entropy_near_the_floor() -> None:
    control = EntropyFloor(0.0, share=0.5, rate=0.05)
    entropy = 4.0
    for _ in range(300):
        control.update(entropy)
        entropy += 0.2 * (1.0 + 20 * control.coefficient - entropy)  # 1.0 is the length without a bonus
    assert entropy == pytest.approx(2.0, rel=0.01)


def test_without_a_floor_the_entropy_coefficient_stays() -> None:
    control = EntropyFloor(0.02, share=0.0, rate=0.1)
    for entropy in (4.0, 1.0, 0.0):
        control.update(entropy)
    assert control.coefficient == 0.02


@pytest.mark.parametrize(
    "make",
    [lambda: AdaptiveKl(0.1, 6.0, 640), lambda: LengthControl(0.5, 0.05), lambda: EntropyFloor(0.0, 0.9, 0.1)],
)
def test_a_restored_controller_goes_on_as_the_one_that_was_saved(make: Callable[[], Any]) -> None:
    def run(control: Any, numbers: list[float]) -> float:
        for number in numbers:
            control.update(*([number, 64] if isinstance(control, AdaptiveKl) else [number]))
        return control.coefficient

    saved, restored = make(), make()
    run(saved, [4.0, 2.0, 1.5])
    restored.load_state(saved.state())
    assert run(restored, [1.0, 9.0]) == run(saved, [1.0, 9.0]) != run(make(), [1.0, 9.0])
