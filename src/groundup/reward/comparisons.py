"""What the reward model compares at a step: the right side of a pair with wrong ones, behind one conversation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import render
from groundup.core.model.branches import Branches
from groundup.reward.pairs import READING, Pair
from groundup.runner.params.training import RewardParams

NUM_CHECKED = 20  # a template that changes prompts does it to most of them


@dataclass(frozen=True)
class Comparison:
    chats: Branches  # the right side, then the wrong ones
    margin: float
    weight: float


def comparisons(
    pairs: Sequence[Pair], weights: Mapping[str, float], tokenizer: PreTrainedTokenizerFast, params: RewardParams
) -> list[Comparison]:
    """A comparison for each pair, in their order; weights: of groups. Only relevance pairs get more wrong replies."""
    size = params.batch_size * params.accumulate
    compared = []
    for step in (pairs[start : start + size] for start in range(0, len(pairs), size)):
        reading = [pair for pair in step if pair.group in READING]
        more = iter(replies_of_others(reading, tokenizer, params.num_wrong_replies - 1, params.max_length))
        for pair in step:
            sides = [pair.chosen, pair.rejected, *(next(more) if pair.group in READING else [])]
            compared.append(Comparison(Branches.of(sides), pair.margin, weights[pair.group]))
    return compared


def replies_of_others(
    pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast, num_replies: int, max_length: int
) -> list[list[list[int]]]:
    """For each pair its conversation with right replies of the next pairs, which are wrong there.

    So a reply is right in one comparison and wrong in num_replies others: by itself it earns what the wrong reply of
    its pair leaves, one part in num_replies + 1.
    """
    if num_replies == 0:
        return [[] for _ in pairs]
    prompts = kept_prompts(pairs, tokenizer)
    found = []
    for place, (pair, prompt) in enumerate(zip(pairs, prompts, strict=True)):
        used = {pair.reply("chosen"), pair.reply("rejected")}
        wrong: list[list[int]] = []
        for i in (*range(place + 1, len(pairs)), *range(place)):
            if len(wrong) == num_replies:
                break
            other, chat = pairs[i], [*prompt, *pairs[i].chosen[len(prompts[i]) :]]
            if (
                other.row["chosen_id"] != pair.row["chosen_id"]
                and other.reply("chosen") not in used
                and len(chat) <= max_length
            ):
                used.add(other.reply("chosen"))
                wrong.append(chat)
        found.append(wrong)
    return found


def check_template(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast, params: RewardParams) -> None:
    """ValueError, before anything is sampled or trained, if replies to the first pairs cannot move."""
    if params.num_wrong_replies > 1:
        kept_prompts(pairs[:NUM_CHECKED], tokenizer)


def kept_prompts(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerFast) -> list[list[int]]:
    """The rendered prompts, behind which other replies can stand; ValueError if the template changes one."""
    prompts = [render(tokenizer, pair.row["chosen"][:-1], reply_next=True) for pair in pairs]
    if any(pair.chosen[: len(prompt)] != prompt for pair, prompt in zip(pairs, prompts, strict=True)):
        raise ValueError(
            "the chat template changes a prompt once its reply follows, so replies cannot move to other prompts: set "
            "reward.num_wrong_replies to 1 or model.chat_template to groundup"
        )
    return prompts
