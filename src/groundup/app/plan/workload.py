"""The amount of work: data as counted by earlier runs, training as set in the params."""

import math
from dataclasses import dataclass
from pathlib import Path

from groundup.app.plan.judge import PlannedJudge
from groundup.app.plan.lengths import DEFAULT, Lengths
from groundup.app.plan.model import PlannedModel
from groundup.app.plan.sizing import count_tokens
from groundup.runner.files import read_object
from groundup.runner.params import Params
from groundup.runner.params.prepare import HubSource

PACKED_SHARE = 0.94  # of an SFT row, filled with tokens
CHARACTERS_PER_DOCUMENT = 900
CHARACTERS_PER_HUB_ROW = 4500
PREPARE = (  # the counts in metrics/prepare.json
    *("num_characters_train", "num_characters_val", "num_chats_train", "num_prompts_train"),
    *("num_preference_pairs_train", "num_relevance_pairs_train"),
    *("num_preference_pairs_val", "num_preference_pairs_test"),
)


@dataclass(frozen=True)
class Data:
    """Counts of the last prepare and tokenizer, or an estimate for hub sources."""

    num_documents: int
    num_characters: int  # train and val, and test by its share
    num_train_characters: int
    num_val_characters: int
    num_chats: int
    num_train_preferences: int  # rated and given pairs
    num_train_relevance_pairs: int
    num_val_pairs: int  # of all kinds
    num_test_pairs: int
    num_train_prompts: int
    val_bytes_per_token: float
    lengths: Lengths = DEFAULT

    @property
    def num_val_tokens(self) -> int:
        return round(self.num_val_characters / self.val_bytes_per_token)


def read_data(root: Path, params: Params, prepare_runs: bool, lengths: Lengths = DEFAULT) -> Data:
    """ValueError if no run has counted the data yet."""
    counted = {}
    for stage, names in (("prepare", PREPARE), ("tokenizer", ("val_bytes_per_token",))):
        path = root / f"metrics/{stage}.json"
        if not path.is_file():
            raise ValueError(
                f"{path.relative_to(root)} is missing, so the amount of data is unknown: `dvc repro tokenizer` writes "
                "it in a minute or two, or `git checkout -- metrics` restores the committed one"
            )
        counted[stage] = read_object(path)
        if missing := [name for name in names if name not in counted[stage]]:
            raise ValueError(
                f"{path.relative_to(root)} lacks {', '.join(missing)}: it is of another version; `dvc repro {stage}` "
                "writes it again"
            )
    prepare, tokenizer = counted["prepare"], counted["tokenizer"]
    splits = params.prepare.splits
    characters = {split: prepare[f"num_characters_{split}"] for split in ("train", "val")}
    characters["test"] = round(characters["val"] * splits.test / splits.val)
    chats, prompts = prepare["num_chats_train"], prepare["num_prompts_train"]
    hub = [source for source in params.prepare.sources if isinstance(source, HubSource) and source.max_rows]
    num_documents = sum(characters.values()) // CHARACTERS_PER_DOCUMENT
    if prepare_runs and hub:  # hub sources then are most of the data
        train = 1 - splits.val - splits.test - splits.monitor - splits.judge
        all_characters = CHARACTERS_PER_HUB_ROW * sum(source.max_rows or 0 for source in hub)
        shares = {"train": train, "val": splits.val, "test": splits.test}
        characters = {split: max(count, round(shares[split] * all_characters)) for split, count in characters.items()}
        num_chats = round(train * sum(source.max_rows or 0 for source in hub if source.yields == "chats"))
        num_documents = max(num_documents, all_characters // CHARACTERS_PER_HUB_ROW)
        chats, prompts = max(chats, num_chats), max(prompts, num_chats)
    return Data(
        num_documents=num_documents,
        num_characters=sum(characters.values()),
        num_train_characters=characters["train"],
        num_val_characters=characters["val"],
        num_chats=chats,
        num_train_preferences=prepare["num_preference_pairs_train"] - prepare["num_relevance_pairs_train"],
        num_train_relevance_pairs=prepare["num_relevance_pairs_train"],
        num_val_pairs=prepare["num_preference_pairs_val"],
        num_test_pairs=prepare["num_preference_pairs_test"],
        num_train_prompts=prompts,
        val_bytes_per_token=lengths.bytes_per_token or tokenizer["val_bytes_per_token"],
        lengths=lengths,
    )


@dataclass(frozen=True)
class Work:
    """Tokens and batches of every stage."""

    model: PlannedModel
    judge: PlannedJudge | None
    pretrain_tokens: int
    sft_tokens: int
    sft_batches: int
    sft_updates: int
    num_pairs: int
    pair_tokens: int  # trained on; the replies to a conversation share it if the model takes branches
    pair_batches: int
    side: float  # mean tokens of a side of the pairs, with its conversation
    relevance_share: float  # of the pairs that prepare writes
    num_sampled: int  # training pairs whose rejected side SFT writes, each once
    sampled_tokens: int  # read to write them
    ppo_tokens: int  # each reply with its prompt counts once


def count_work(params: Params, data: Data, model: PlannedModel, judge: PlannedJudge | None = None) -> Work:
    s, r, a, lengths = params.sft, params.reward, params.align, data.lengths
    num_chats = at_most(s.max_chats, data.num_chats)
    sft_tokens = round(s.num_epochs * num_chats * lengths.example)
    sft_batches = math.ceil(sft_tokens / (PACKED_SHARE * s.batch_size * s.max_length))
    rated = at_most(r.max_pairs, data.num_train_preferences)
    relevance = at_most(r.max_relevance_pairs, data.num_train_relevance_pairs) if r.relevance_weight > 0 else 0
    sampled = at_most(r.sampled.max_pairs, data.num_train_prompts) if r.sampled.weight > 0 else 0
    chat = lengths.prompt + lengths.reply_share * r.sampled.max_new_tokens
    repeats = at_most(r.max_repeat_pairs, relevance)
    num_pairs = rated + relevance + repeats + sampled
    written = data.num_train_preferences + data.num_train_relevance_pairs
    sides = rated * lengths.rated + (relevance + repeats) * lengths.relevance + sampled * chat
    tokens = (
        2 * rated * lengths.rated  # of two conversations
        + relevance * comparison_tokens(params, lengths.relevance, num_wrong_replies(params), lengths, model)
        + repeats * comparison_tokens(params, lengths.relevance, 1, lengths, model)
        + sampled * comparison_tokens(params, chat, 1, lengths, model)
    )
    return Work(
        model=model,
        judge=judge,
        pretrain_tokens=count_tokens(params),
        sft_tokens=sft_tokens,
        sft_batches=sft_batches,
        sft_updates=math.ceil(sft_batches / s.accumulate),
        num_pairs=round(r.num_epochs * num_pairs),
        pair_tokens=round(r.num_epochs * tokens),
        pair_batches=math.ceil(r.num_epochs * num_pairs / r.batch_size),
        side=sides / num_pairs if num_pairs else DEFAULT.relevance,
        relevance_share=data.num_train_relevance_pairs / max(1, written),
        num_sampled=sampled,
        sampled_tokens=round(sampled * chat),
        ppo_tokens=round(a.num_iterations * a.rollout.batch_size * rollout_tokens(params, lengths)),
    )


def num_wrong_replies(params: Params) -> int:
    """Of a relevance pair; a step has no more replies than pairs."""
    r = params.reward
    return min(r.num_wrong_replies, r.batch_size * r.accumulate) if r.relevance_weight > 0 else 1


def comparison_tokens(params: Params, chat: float, num_wrong: int, lengths: Lengths, model: PlannedModel) -> float:
    """Of a chat with its right reply and with wrong ones, as the reward model reads them.

    Wrong replies are taken to be as long as those of align, which are cut at its limit.
    """
    more = lengths.reply_share * params.align.rollout.max_new_tokens if model.takes_branches else chat
    return chat + num_wrong * more


def rollout_tokens(params: Params, lengths: Lengths) -> float:
    """Mean tokens of a reply of align with its prompt."""
    return lengths.prompt + lengths.reply_share * params.align.rollout.max_new_tokens


def tokens_elsewhere(params: Params, lengths: Lengths, model: PlannedModel, group: int) -> float:
    """Mean tokens read to score a reply of align after other prompts, each of which is read once for all its replies.

    group: replies to one prompt.
    """
    num, reply = params.align.rollout.num_elsewhere, lengths.reply_share * params.align.rollout.max_new_tokens
    if not model.takes_branches or num == 0:
        return num * (lengths.prompt + reply)
    return lengths.prompt / group + num * reply


def replies_per_prompt(params: Params) -> int:
    """In the iterations of align."""
    num: int = getattr(getattr(params.align, params.align.method), "num_generations", 1)
    return num


def at_most(limit: int | None, number: int) -> int:
    return number if limit is None else min(limit, number)
