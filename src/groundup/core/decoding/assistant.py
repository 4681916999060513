"""A chat model with its tokenizer and, if needed, its reward model."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.core.decoding.history import FittedPrompt, fit_prompt
from groundup.core.formats.records import Message
from groundup.core.model.context import context_length
from groundup.core.model.scoring import RewardScorer


@dataclass(frozen=True)
class Assistant:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    scorer: RewardScorer | None = None  # for best_of_n and tree, which choose by reward

    @property
    def context_length(self) -> int:
        return context_length(self.model, self.tokenizer)

    def check_length(self, max_new_tokens: int) -> None:
        """ValueError unless at least half of the context is left for the prompt."""
        if not 1 <= max_new_tokens <= self.context_length // 2:
            raise ValueError(
                f"max_new_tokens is {max_new_tokens}: choose 1 to {self.context_length // 2}, half of the model's "
                "context"
            )

    def fit(self, messages: Sequence[Message], max_new_tokens: int) -> FittedPrompt:
        """The prompt, short enough for a reply and the end-of-turn token with which it is scored."""
        self.check_length(max_new_tokens)
        return fit_prompt(self.tokenizer, messages, self.context_length - max_new_tokens - 1)
