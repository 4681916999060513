"""A chat model with what it needs to answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from groundup.assistant.history import FittedPrompt, fit_prompt
from groundup.model.chat_format import Message
from groundup.model.scoring import RewardScorer


@dataclass(frozen=True)
class Assistant:
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast
    scorer: RewardScorer | None = None  # best_of_n and tree choose by it

    def fit(self, messages: Sequence[Message], max_new_tokens: int) -> FittedPrompt:
        """The prompt that leaves room for a reply and the end-of-turn token it is scored with."""
        context_length = self.model.config.max_position_embeddings
        # Half the context at least is for what was said.
        if not 1 <= max_new_tokens <= context_length // 2:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}: choose 1 to {context_length // 2}, half of the model's context"
            )
        return fit_prompt(self.tokenizer, messages, context_length - max_new_tokens - 1)
