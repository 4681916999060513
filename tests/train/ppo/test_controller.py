"""The adaptive KL coefficient."""

import pytest

from groundup.train.ppo.controller import AdaptiveKl


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
