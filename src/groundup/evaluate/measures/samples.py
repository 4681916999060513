"""Write all replies to a file, and show a few of them side by side."""

import random
from collections.abc import Mapping
from typing import Any

from groundup.core.formats.jsonl import write_jsonl
from groundup.evaluate.measures.measure import Measure
from groundup.evaluate.shown import MODELS, Sample, Section, Shown

FILE = "replies.jsonl"


class Samples(Measure):
    def publish(self, metrics: Mapping[str, Any]) -> None:
        write_jsonl(self.context.out / FILE, [self._row(i) for i in range(len(self.context.prompts))])

    def shown(self, metrics: Mapping[str, Any]) -> Shown:
        count = min(self.context.params.num_samples, len(self.context.prompts))
        drawn = random.Random(self.context.params.seed).sample(range(len(self.context.prompts)), count)
        samples = [_sample(self._row(i)) for i in sorted(drawn)]
        hint = f"Drawn at random from the test prompts, unedited. All replies are in {FILE}."
        return Shown(sections=[Section("Side by side", hint, samples=samples)] if samples else [])

    def _row(self, i: int) -> dict[str, Any]:
        prompt = self.context.prompts[i]
        replies = {
            model: {"text": replies["texts"][i], "reward": replies["rewards"][i], "ended": replies["ended"][i]}
            for model, replies in self.context.replies.items()
        }
        return {"conversation_id": prompt.conversation_id, "messages": prompt.messages, **replies}


def _sample(row: Mapping[str, Any]) -> Sample:
    return Sample(
        topic=" ".join(m["content"] for m in row["messages"] if m["role"] == "system"),
        turns=[m for m in row["messages"] if m["role"] != "system"],
        replies=[{"model": title, **row[model]} for model, title in MODELS.items()],
    )
