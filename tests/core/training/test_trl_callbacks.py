import math

import pytest

from groundup.core.training.runtime import NonFiniteLossError
from groundup.core.training.trl_callbacks import require_finite


def test_every_value_that_is_not_finite_is_named() -> None:
    require_finite({"loss": 1.5}, "sft: {} at step 3")
    with pytest.raises(NonFiniteLossError, match=r"^sft: loss is nan, kl is inf at step 3$"):
        require_finite({"loss": math.nan, "reward": 0.5, "kl": math.inf}, "sft: {} at step 3")
