"""Where the time of our step goes."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import SimpleProfiler


class ProfileOperators(L.Callback):
    """Share of the CPU time of `num_steps` steps that each operator of torch took itself."""

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self.profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])

    def on_train_batch_start(self, trainer: L.Trainer, *unused: Any) -> None:
        if trainer.global_step == trainer.max_steps - self.num_steps:
            self.profiler.start()

    def on_train_end(self, *unused: Any) -> None:
        self.profiler.stop()

    def shares(self, at_least: float) -> dict[str, float]:
        events = self.profiler.key_averages()
        total = sum(event.self_cpu_time_total for event in events)
        by_time = sorted(events, key=lambda event: -event.self_cpu_time_total)
        return {event.key: share for event in by_time if (share := event.self_cpu_time_total / total) >= at_least}


def parts(profiler: SimpleProfiler, num_steps: int) -> dict[str, float]:
    """Milliseconds of a step, by Lightning's SimpleProfiler."""
    total = {name: sum(seconds) for name, seconds in profiler.recorded_durations.items()}

    def of(ending: str) -> float:
        return sum(seconds for name, seconds in total.items() if name.endswith(ending))

    forward, backward, data = of(".training_step"), of(".backward"), of(".train_dataloader_next")
    clipping = of("PretrainModule.configure_gradient_clipping")
    # The optimizer's step calls the closure, which is forward and backward, and hooks before and after them.
    hooks = sum(of(f".{hook}") for hook in ("optimizer_zero_grad", "on_before_zero_grad", "on_before_backward"))
    hooks += of(".on_after_backward") + of("PretrainModule.on_before_optimizer_step")
    optimizer = of("PretrainModule.optimizer_step") - forward - backward - clipping - hooks
    named = {"forward and loss": forward, "backward": backward, "clipping": clipping, "optimizer": optimizer}
    named |= {"data": data}
    named["Lightning and callbacks"] = total["run_training_epoch"] - sum(named.values())
    return {name: 1000 * seconds / num_steps for name, seconds in named.items()}
