"""The table of samples: replies to the same prompts as the policy changes."""

from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from groundup.align.rollout import Rollout
from groundup.core.formats.jsonl import write_jsonl
from groundup.core.rollout.prompts import Prompt


@dataclass
class SampleTable:
    """Rows of all tables so far; the file is rewritten each time, so that a resumed run leaves the same one."""

    prompts: list[Prompt]
    tokenizer: PreTrainedTokenizerFast
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def prompt_ids(self) -> list[list[int]]:
        return [prompt.ids for prompt in self.prompts]

    def add(self, iteration: int, rollout: Rollout) -> None:
        replies = self.tokenizer.batch_decode(rollout.replies.tokens, skip_special_tokens=True)
        for i, (prompt, reply) in enumerate(zip(self.prompts, replies, strict=True)):
            self.rows.append(
                {
                    "iteration": iteration,
                    "prompt": i,
                    "messages": prompt.messages,
                    "reply": reply,
                    "ended": rollout.replies.ended[i],
                    "score": round(rollout.scores[i].item(), 4),
                    "kl": round(rollout.kl[i].sum().item(), 4),
                }
            )

    def write(self, report: Path) -> None:
        report.mkdir(parents=True, exist_ok=True)
        write_jsonl(report / "samples.jsonl", self.rows)
        (report / "samples.md").write_text(self._markdown(), encoding="utf-8")

    def _markdown(self) -> str:
        lines = [
            "# Samples during alignment",
            "",
            "Iteration 0 is the SFT model. The random numbers are the same each time.",
        ]
        by_prompt = sorted(self.rows, key=lambda row: (row["prompt"], row["iteration"]))
        for number, rows in groupby(by_prompt, key=lambda row: row["prompt"]):
            lines += ["", f"## Prompt {number + 1}", ""]
            lines += [f"> **{m['role']}**: {_one_line(m['content'])}  " for m in self.prompts[number].messages]
            lines += ["", "| iteration | score | KL | reply |", "|---:|---:|---:|---|"]
            lines += [
                f"| {row['iteration']} | {row['score']:.2f} | {row['kl']:.1f} "
                f"| {_one_line(row['reply'])}{'' if row['ended'] else ' [cut]'} |"
                for row in rows
            ]
        return "\n".join(lines) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
