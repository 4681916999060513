"""Tokens that groundup adds to an open model: their embeddings are new, so LoRA trains them beside its adapter."""

from transformers import PreTrainedConfig, PreTrainedModel

KEY = "added_token_ids"  # in config.json, which all later models inherit


def add_tokens(model: PreTrainedModel, num_tokens: int, added: list[int]) -> None:
    """Give `model` embeddings for `num_tokens` tokens and note which were `added`.

    New rows are drawn around the mean of the others, as transformers does; a padded vocabulary has rows to spare.
    """
    if num_tokens > model.config.vocab_size:
        model.resize_token_embeddings(num_tokens)
    if added:
        setattr(model.config, KEY, sorted(added))


def added_tokens(config: PreTrainedConfig) -> list[int]:
    return list(getattr(config, KEY, []))
