"""How many tokens a model may read: one length for every stage."""

from transformers import PreTrainedModel, PreTrainedTokenizerFast


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> int:
    """In tokens: model.context_length, which the tokenizer records, or the model's positions if they are fewer.

    An open model often has positions for far longer texts than those that it is trained with here.
    """
    return min(int(model.config.max_position_embeddings), int(tokenizer.model_max_length))
