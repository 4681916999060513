"""The replies of every validation with score and KL, for judges that training must not use."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.rollout.answers import Answers
from groundup.core.rollout.prompts import Prompt

FILE = "evaluation_points.jsonl"


@dataclass
class EvaluationPoints:
    """One row per evaluation point and validation prompt; iteration 0 is the SFT model."""

    prompts: list[Prompt]
    tokenizer: PreTrainedTokenizerFast
    rows: list[dict[str, Any]] = field(default_factory=list)  # without the prompts' own columns

    def add(self, iteration: int, answers: Answers) -> None:
        replies = self.tokenizer.batch_decode(answers.tokens, skip_special_tokens=True)
        for i, reply in enumerate(replies):
            self.rows.append(
                {
                    "iteration": iteration,
                    "prompt": i,
                    "reply": reply,
                    "ended": answers.ended[i],
                    "score": round(answers.scores[i].item(), 4),
                    "score_std": round(answers.scores_std[i].item(), 4),
                    "kl": round(answers.kl[i].item(), 4),
                    "num_tokens": len(answers.tokens[i]),
                }
            )

    def mean(self, name: str, iteration: int) -> float:
        return statistics.fmean(row[name] for row in self.rows if row["iteration"] == iteration)

    def replies(self, iteration: int) -> list[str]:
        return [row["reply"] for row in self.rows if row["iteration"] == iteration]

    def write(self, report: Path, kept_iteration: int) -> None:
        write_jsonl(
            report / FILE,
            (
                {
                    **row,
                    "conversation_id": self.prompts[row["prompt"]].conversation_id,
                    "messages": self.prompts[row["prompt"]].messages,
                    "kept": row["iteration"] == kept_iteration,
                }
                for row in self.rows
            ),
        )
