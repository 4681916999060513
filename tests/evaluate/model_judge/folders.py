"""A tiny random model as a folder, with this project's chat template or with none."""

from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.evaluate.model_judge.logprobs import KeptLogprobs
from groundup.runner.files import digest_path
from groundup.runner.params.evaluate import ModelJudgeParams
from tests.llamas import tiny_llama


def save(folder: Path, tokenizer: PreTrainedTokenizerFast, has_template: bool = True) -> LlamaForCausalLM:
    model = tiny_llama(tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if not has_template:
        (folder / "chat_template.jinja").unlink()
    return model


def judge_params(digest: str | None, max_length: int = 1000) -> ModelJudgeParams:
    return ModelJudgeParams(
        path=None,
        digest=digest,
        max_length=max_length,
        batch_size=3,
        num_others=2,
        num_pairs=50,
        num_control_prompts=3,
    )


def opened(folder: Path, kept: Path) -> KeptLogprobs:
    checked = ModelFolder.check(folder, judge_params(digest_path(folder)))
    return KeptLogprobs(checked, torch.device("cpu"), batch_size=3, file=kept)
