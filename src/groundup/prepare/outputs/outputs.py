"""The outputs of prepare that later stages read."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from groundup.prepare.outputs import chats, conversations, evaluation, preferences, prompts, text
from groundup.prepare.outputs.rows import Records, Sizes
from groundup.runner.params.prepare import PrepareParams
from groundup.runner.steps import FinishedSteps


@dataclass(frozen=True)
class Output:
    """`write` fills a folder from the records of each split; `noun` names its rows in the metrics."""

    write: Callable[[PrepareParams, Records, Path], Sizes]
    noun: str


OUTPUTS = {
    "text": Output(text.write, "documents"),
    "chats": Output(chats.write, "chats"),
    "preferences": Output(preferences.write, "preference_pairs"),
    "prompts": Output(prompts.write, "prompts"),
    "evaluation": Output(evaluation.write, "items"),
    "monitor": Output(conversations.write_monitor, "conversations"),
    "judge": Output(conversations.write_judge, "conversations"),
}


def write_output(params: PrepareParams, records: Records, steps: FinishedSteps, name: str) -> Sizes:
    """Run the step output-<name>, in whichever process."""
    return steps.fill(f"output-{name}", partial(OUTPUTS[name].write, params, records))
