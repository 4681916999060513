"""After a rollback the pull to the SFT model is stronger than before it, whichever coefficient was higher."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from groundup.align.methods.ppo.module import Ppo


@pytest.mark.parametrize(("now", "then"), [(0.2, 0.1), (0.1, 0.2)])
def test_the_higher_coefficient_is_raised(now: float, then: float) -> None:
    controller = SimpleNamespace(coefficient=now)
    ppo = SimpleNamespace(controller=controller)
    ppo.load_learned_state = lambda learned: setattr(controller, "coefficient", learned["coefficient"])
    learned: dict[str, Any] = {"coefficient": then}
    Ppo.roll_back(cast("Ppo", ppo), learned, kl_factor=4.0)
    assert controller.coefficient == 4.0 * 0.2
