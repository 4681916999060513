"""The folder of a judge's model: checked as a whole, pinned by its digest, read without network and foreign code."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.formats.records import Message
from groundup.core.model.folder import read_folder, template_problems
from groundup.core.model.verify import verify_passes
from groundup.runner.files import digest_path
from groundup.runner.params.evaluate import ModelJudgeParams

CHAT: list[Message] = [  # what conversations consist of
    {"role": "system", "content": "music"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": ""},
]


@dataclass(frozen=True)
class ModelFolder:
    path: Path
    digest: str
    tokenizer: PreTrainedTokenizerFast
    context_length: int  # tokens that it may read, the reply included

    @classmethod
    def check(cls, path: Path, params: ModelJudgeParams) -> "ModelFolder":
        """ValueError names everything that is wrong with it."""
        if not path.is_dir():
            raise ValueError(f"evaluate.model_judge.path: there is no folder {path}; put a model there or correct it")
        read = read_folder(path)
        config, tokenizer, problems = read.config, read.tokenizer, list(read.problems)
        if tokenizer:
            problems += [
                f"{problem}, or remove it: without, conversations are plain text"
                for problem in template_problems(tokenizer, CHAT)
            ]
        digest = digest_path(path)
        if digest != params.digest:
            problems.append(
                f"its digest is {digest} and evaluate.model_judge.digest is {params.digest or 'null'}: if this is the "
                "model that you mean, set the digest to the one found"
            )
        if problems or config is None or tokenizer is None:
            raise ValueError(
                f"the model in {path} (evaluate.model_judge) cannot judge:\n"
                + "\n".join(f"  {problem}" for problem in problems)
            )
        return cls(path, digest, tokenizer, min(params.max_length, config.max_position_embeddings))

    def load(self, device: torch.device) -> PreTrainedModel:
        """In fp32, for rounding must not blur small differences; verified on a made-up input."""
        model, loaded = AutoModelForCausalLM.from_pretrained(
            self.path,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if missing := sorted(loaded["missing_keys"]):
            raise ValueError(
                f"the model in {self.path} (evaluate.model_judge) lacks {len(missing)} weights, such as {missing[0]}: "
                "put the whole model there"
            )
        judge: PreTrainedModel = model.to(device).eval()
        try:
            verify_passes(judge)
        except ValueError as error:
            raise ValueError(f"the model in {self.path} (evaluate.model_judge) cannot judge: {error}") from error
        return judge
