"""The forward pass over packed rows and its loss as one module, around which FSDP2 brings sharded weights together."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad
from transformers import PreTrainedModel

from groundup.core.model.forward import RowAttention, hidden_states, take
from groundup.core.model.head import has_plain_head, output_logits
from groundup.core.training.ranks import num_ranks, total
from groundup.pretrain.cross_entropy import linear_cross_entropy


def places_that_predict(position_ids: torch.Tensor) -> torch.Tensor:
    """[W] positions in the flattened rows [B, T]; the last token of a document does not predict the next document."""
    return pad(position_ids[:, 1:] != 0, (0, 1)).flatten().nonzero()[:, 0]


class RowLoss(nn.Module):
    """`compiled`: run transformers' layers by torch.compile, whose CPU kernels are no faster at small sizes.

    Only the function is compiled, not the module: evaluation calls the module with other batch shapes, and each
    would be compiled again. Without compilation, our own forward pass is a few percent faster.
    """

    def __init__(self, model: PreTrainedModel, *, compiled: bool) -> None:
        super().__init__()
        self.model = model
        self.has_plain_head = has_plain_head(model)
        self.compiled_layers = torch.compile(model.base_model.forward) if compiled else None

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Mean over the tokens of the rows that predict another; its mean over ranks is that of all rows."""
        ids, places = batch["input_ids"].flatten(), places_that_predict(batch["position_ids"])
        if self.compiled_layers is None:
            hidden = hidden_states(self.model.base_model, ids, RowAttention(batch["position_ids"]), places)
        else:
            # No attention mask and no cache: transformers then derives the block-diagonal mask from position_ids.
            hidden = self.compiled_layers(**batch, use_cache=False).last_hidden_state
            hidden = take(hidden.flatten(0, 1), places)
        labels = ids[places + 1]
        if self.has_plain_head:
            loss = linear_cross_entropy(hidden, self.model.get_output_embeddings().weight, labels)
        else:
            loss = cross_entropy(output_logits(self.model, hidden).float(), labels)
        if num_ranks() == 1:
            return loss
        num_labels = torch.tensor(float(len(labels)), device=loss.device)
        return loss * (num_labels * num_ranks() / total(num_labels))
