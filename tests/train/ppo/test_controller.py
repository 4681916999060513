"""The coefficients of the KL penalty and of the reply length."""

import pytest
import torch

from groundup.train.ppo.controller import AdaptiveKl, LengthControl


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
        controller.update(kl=1 / controller.coefficient, num_replies=64)  # a policy that drifts less the more it costs
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
