"""PPO in bf16 at toy size on the CPU: its results, not its speed."""

import pytest
import torch
from safetensors.torch import load_file

from tests.align.conftest import AlignRun, Recorder


def test_bf16_follows_fp32_and_keeps_its_weights_in_fp32(run_align: AlignRun) -> None:
    curves = {}
    for precision in ("fp32", "bf16"):
        recorder = Recorder()
        metrics = run_align(precision, recorder, precision=precision, num_iterations=5)
        assert metrics["kept_iteration"] > 0
        curves[precision] = recorder.points[1]
    assert curves["bf16"] != curves["fp32"]
    assert run_align.weights("bf16") != run_align.weights("fp32")
    saved = load_file(run_align.root / "bf16/out/model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    # Token by token with a cache, or all at once: the policy, still the reference, gives the same probabilities.
    assert curves["bf16"]["kl"] == pytest.approx(0, abs=0.05)
    assert curves["bf16"]["entropy"] == pytest.approx(curves["fp32"]["entropy"], rel=0.01)
    assert curves["bf16"]["reward"] == pytest.approx(curves["fp32"]["reward"], abs=0.3)
