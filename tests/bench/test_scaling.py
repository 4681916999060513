"""The scaling study: the fit recovers a known law, and all sizes use the same compute."""

import numpy as np
import pytest

from bench.scaling.__main__ import resize_run
from bench.scaling.fit import Law, fit_law
from groundup.app.plan.sizing import shape
from groundup.runner.params import load_params
from tests.conftest import ROOT

LAW = Law(irreducible=1.2, of_parameters=60.0, alpha=0.4, of_tokens=120.0, beta=0.35)
PARAMS = load_params(ROOT / "params.yaml")


def test_the_fit_finds_the_law_that_made_the_points() -> None:
    sizes = [(n, d) for n in (3e5, 7e5, 1.3e6, 3.5e6) for d in (1e5, 4e5, 1.6e6)]
    cells = [
        {"num_parameters": n, "num_tokens": d, "val_bits_per_byte": float(LAW.bits_per_byte(n, d))} for n, d in sizes
    ]
    found = fit_law(cells)
    assert found.irreducible == pytest.approx(1.2, abs=0.01)
    assert found.alpha == pytest.approx(0.4, abs=0.01)
    assert found.beta == pytest.approx(0.35, abs=0.01)


def test_no_size_is_better_than_the_best_at_the_same_compute() -> None:
    flops = 1e13
    parameters = np.geomspace(1e5, 1e8, 500)
    values = LAW.bits_per_byte(parameters, flops / 6 / parameters)
    assert LAW.frontier(flops) == pytest.approx(values.min(), abs=1e-4)
    assert LAW.best_parameters(flops) == pytest.approx(parameters[values.argmin()], rel=0.02)


def test_the_frontier_is_a_power_of_compute_above_the_irreducible() -> None:
    above = [LAW.frontier(flops) - LAW.irreducible for flops in (1e12, 1e14)]
    assert above[1] / above[0] == pytest.approx(100**-LAW.exponent)


def test_a_run_of_another_size_takes_the_same_compute() -> None:
    run = resize_run(PARAMS, shape(PARAMS.model.scratch, 2), flops=1e12, num_parameters=500_000)
    p = run.pretrain
    tokens = p.num_steps * p.batch_size * p.accumulate * run.model.context_length
    assert 6 * 500_000 * tokens == pytest.approx(1e12, rel=0.01)
    assert run.model.scratch.num_layers == 2
    assert p.warmup_steps / p.num_steps == pytest.approx(
        PARAMS.pretrain.warmup_steps / PARAMS.pretrain.num_steps, rel=0.05
    )
    assert p.learning_rate == PARAMS.pretrain.learning_rate
