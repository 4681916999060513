"""The model that judges replies (evaluate.judge: model): its shape, and the lengths of what it reads in its tokens."""

from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from groundup.app.plan.lengths import Lengths, some_rows
from groundup.app.plan.model import PlannedModel, shape_of
from groundup.runner.environment import main_root
from groundup.runner.params import Params

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast


@dataclass(frozen=True)
class PlannedJudge:
    config: "PreTrainedConfig"
    shape: PlannedModel
    conversation: float  # mean tokens
    reply: float  # the same
    longest: int  # tokens of a conversation with a reply


def planned_judge(root: Path, params: Params, lengths: Lengths) -> PlannedJudge | None:
    """None without such a judge. lengths: by the policy's tokenizer; they count where there is no data yet."""
    judge = params.evaluate.model_judge
    if params.evaluate.judge != "model" or judge.path is None:
        return None
    from groundup.app.plan.open_model import base_config
    from groundup.core.model.folder import read_tokenizer

    folder = main_root(root) / judge.path
    config = base_config(folder)
    tokenizer, problems = read_tokenizer(folder)
    if tokenizer is None or problems:
        raise ValueError(f"the model in {folder} cannot be used: {'; '.join(problems)}")
    context = min(judge.max_length, config.max_position_embeddings)
    read = count_read(tokenizer, context, root / "artifacts/data", params.evaluate.max_new_tokens)
    if not read:
        read = [(round(lengths.prompt), round(lengths.reply_share * params.evaluate.max_new_tokens))]
    return PlannedJudge(
        config,
        shape_of(config),
        conversation=mean(conversation for conversation, _ in read),
        reply=mean(reply for _, reply in read),
        longest=max(map(sum, read)),
    )


def count_read(
    tokenizer: "PreTrainedTokenizerFast", context: int, data: Path, max_reply_tokens: int
) -> list[tuple[int, int]]:
    """(tokens of a conversation, of a person's reply to it) of some prompts, as the judge reads them."""
    from groundup.evaluate.model_judge.reading import Reader

    reader = Reader(tokenizer, context)
    given = (
        (row["messages"], reader.reply(row["reply"])) for row in some_rows(data / "prompts/val.jsonl") if row["reply"]
    )
    return [
        (len(reader.conversation(messages, reply)), min(max_reply_tokens, len(reply.ids))) for messages, reply in given
    ]
