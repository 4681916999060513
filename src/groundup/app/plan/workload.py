"""The amount of work: data as counted by earlier runs, training as set in the params."""

import math
from dataclasses import dataclass
from pathlib import Path

from groundup.app.plan.sizing import count_parameters, count_tokens
from groundup.runner.files import read_object
from groundup.runner.params import Params
from groundup.runner.params.prepare import HubSource

# Tokens in the default run; for other data they are unknown before prepare has run.
MEAN_DOCUMENT = 290
PACKED_SHARE = 0.94  # of an SFT row, filled with tokens
MEAN_EXAMPLE = 242  # per chat in SFT, over all its pieces
MEAN_CHAT = 84  # per side of a reward pair
MEAN_PROMPT = 50
LIVE_SHARE = 0.4  # of max_new_tokens, used by the average reply
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

    @property
    def num_val_tokens(self) -> int:
        return round(self.num_val_characters / self.val_bytes_per_token)


def read_data(root: Path, params: Params, prepare_runs: bool) -> Data:
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
        val_bytes_per_token=tokenizer["val_bytes_per_token"],
    )


@dataclass(frozen=True)
class Work:
    """Tokens and batches of every stage."""

    num_parameters: int
    pretrain_tokens: int
    sft_tokens: int
    sft_batches: int
    sft_updates: int
    num_pairs: int
    pair_batches: int
    ppo_tokens: int  # each reply with its prompt counts once

    @property
    def pair_tokens(self) -> int:
        return 2 * MEAN_CHAT * self.num_pairs


def count_work(params: Params, data: Data) -> Work:
    s, r, a = params.sft, params.reward, params.align
    num_chats = at_most(s.max_chats, data.num_chats)
    sft_tokens = round(s.num_epochs * num_chats * MEAN_EXAMPLE)
    sft_batches = math.ceil(sft_tokens / (PACKED_SHARE * s.batch_size * s.max_length))
    num_pairs = at_most(r.max_pairs, data.num_train_preferences)
    num_pairs += at_most(r.max_relevance_pairs, data.num_train_relevance_pairs) if r.relevance_weight > 0 else 0
    num_pairs += at_most(r.sampled.max_pairs, data.num_train_prompts) if r.sampled.weight > 0 else 0
    return Work(
        num_parameters=count_parameters(params.model.scratch, params.tokenizer.scratch.vocab_size),
        pretrain_tokens=count_tokens(params),
        sft_tokens=sft_tokens,
        sft_batches=sft_batches,
        sft_updates=math.ceil(sft_batches / s.accumulate),
        num_pairs=round(r.num_epochs * num_pairs),
        pair_batches=math.ceil(r.num_epochs * num_pairs / r.batch_size),
        ppo_tokens=round(
            a.num_iterations * a.rollout.batch_size * (MEAN_PROMPT + LIVE_SHARE * a.rollout.max_new_tokens)
        ),
    )


def at_most(limit: int | None, number: int) -> int:
    return number if limit is None else min(limit, number)
