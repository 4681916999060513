"""SFT and reward on a model with sinusoidal positions, linear attention, grouped queries and untied embeddings."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.jsonl import write_jsonl
from groundup.core.model.check import CAUSAL, REWARD, check_model
from groundup.core.model.llama import load_causal_lm, save_model
from groundup.core.model.scoring import RewardScorer
from groundup.sft.chat_examples import tokenize_chat
from tests.core.model.variants import variant_model
from tests.resume import Curve
from tests.reward import test_reward
from tests.sft import test_sft

CPU = torch.device("cpu")


@pytest.fixture
def base(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    save_model(variant_model(tiny_tokenizer), tiny_tokenizer, tmp_path / "base", "# card\n")
    return tmp_path / "base"


def test_sft_and_reward_learn_and_stay_what_they_are(
    base: Path, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    for split in ("train", "val", "test"):
        write_jsonl(tmp_path / f"chats/{split}.jsonl", test_sft.CHATS)
        write_jsonl(tmp_path / f"preferences/{split}.jsonl", (test_reward.pair(i) for i in range(32)))
        write_jsonl(tmp_path / f"prompts/{split}.jsonl", (test_reward.prompt(i) for i in range(20)))
    metrics = test_sft.run({"base": base, "chats": tmp_path / "chats"}, tmp_path / "sft", Curve())
    assert metrics["val_loss"] < metrics["val_loss_before"]
    check_model(tmp_path / "sft/out", CAUSAL)
    sft = load_causal_lm(tmp_path / "sft/out", CPU)
    assert (sft.config.position, sft.config.attention) == ("sinusoidal", "linear")
    assert sft.lm_head.weight is not sft.model.embed_tokens.weight

    inputs = {"sft": tmp_path / "sft/out", "preferences": tmp_path / "preferences", "prompts": tmp_path / "prompts"}
    sampled = test_reward.REWARD.model_copy(update={"sampled": test_reward.WITH_SAMPLED, "num_epochs": 4.0})
    assert test_reward.run(inputs, tmp_path / "reward", Curve(), sampled)["heldout_accuracy"] > 0.9
    check_model(tmp_path / "reward/out", REWARD)
    scorer = RewardScorer.load(tmp_path / "reward/out", CPU)
    good, bad = (
        tokenize_chat(tiny_tokenizer, test_reward.pair(40)[side]).input_ids for side in ("chosen", "rejected")
    )
    means, _ = scorer.score([good, bad])
    assert means[0] > means[1]
    padded = scorer.model(torch.tensor([good + [tiny_tokenizer.pad_token_id] * 5])).logits[0, 0]  # as TRL has it
    assert means[0].item() == pytest.approx(padded.item(), abs=1e-4)
