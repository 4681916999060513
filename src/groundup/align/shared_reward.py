"""The reward model as an adapter and a head on the policy's base, instead of a second model in memory."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, TaskType
from peft.tuners.lora import LoraLayer
from peft.utils.other import TrainableTokensWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from groundup.align.policy import Policy
from groundup.core.model import variational
from groundup.core.model.scoring import BATCH_SIZE, RewardScorer
from groundup.runner.files import restore

logger = logging.getLogger(__name__)

REWARD = "reward"  # the adapter's name
HEAD = "score.weight"
PARTS_OF_ADAPTERS = (".base_layer", ".lora_", ".token_adapter")  # modules inside those of PEFT
# Between the published reward model and the sum that the reward stage rounded to it, perhaps on another device.
RELATIVE, ABSOLUTE = 1e-4, 1e-6


class SharedScorer(RewardScorer):
    """Scores with the policy's base and the reward model's adapter."""

    def __init__(self, policy: Policy, head: nn.Module) -> None:
        self.model = policy.model
        self.head = head
        self.batch_size = BATCH_SIZE
        self._policy = policy

    @contextmanager
    def trunk(self) -> Iterator[PreTrainedModel]:
        with self._policy.adapted(REWARD) as model:
            yield model.base_model


def load_scorer(policy: Policy, reward: Path, device: torch.device) -> RewardScorer:
    """On the policy's base where base and adapter are the reward model in `reward`, otherwise with a model of its own.

    They are if both stages trained adapters and the reward model came from this SFT model.
    """
    adapter = reward / "adapter"
    if policy.adapter is None or not adapter.is_dir():
        return RewardScorer.load(reward, device)
    _add_frozen(policy, adapter)
    with _published(reward) as weights:
        different = _different_weight(policy.model, weights)
        weight = weights[HEAD].get_tensor(HEAD).float().clone()  # not a view of the file
    if different is not None:
        policy.adapter.delete_adapter(REWARD)
        logger.warning(
            "align: the reward model was not trained from this SFT model (%s differs), so it takes memory of its own",
            different,
        )
        return RewardScorer.load(reward, device)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight = nn.Parameter(weight)
    head: nn.Module = linear
    if (reward / variational.FILE).is_file():
        head = variational.WithUncertainty(linear, variational.load_head(reward))
    return SharedScorer(policy, head.to(device).requires_grad_(False).eval())


def _add_frozen(policy: Policy, folder: Path) -> None:
    """The adapter in `folder` without its score head, which a causal language model has no place for.

    Not by PEFT's own loading, which expects rows of added tokens for an untied lm_head: the reward model has none.
    """
    try:
        config = LoraConfig.from_pretrained(folder)
        config.task_type, config.modules_to_save, config.inference_mode = TaskType.CAUSAL_LM, None, True
        policy.add_adapter(REWARD, config)
        policy.trained.load_state_dict(
            {_place(name): weight for name, weight in load_file(folder / "adapter_model.safetensors").items()},
            strict=False,  # what is missing shows in the weights
        )
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the adapter in {folder} cannot be read ({error}). {restore(folder)}") from None


def _place(name: str) -> str:
    """A weight of an adapter's file in the model, which has several adapters."""
    layer, _, weight = name.rpartition(".")
    return f"{layer}.{REWARD}.weight" if weight == "weight" else f"{name}.{REWARD}"


@contextmanager
def _published(reward: Path) -> Iterator[dict[str, safe_open]]:
    """The reward model's weights by name, each in the open file that reads it."""
    with ExitStack() as files:
        opened = [
            files.enter_context(safe_open(file, framework="pt"))
            for file in sorted(reward.glob("*.safetensors"))
            if file.name != variational.FILE
        ]
        yield {name: file for file in opened for name in file.keys()}  # noqa: SIM118  not a dict


def _different_weight(model: PreTrainedModel, published: Mapping[str, safe_open]) -> str | None:
    """A weight of the published reward model that is not the sum of base and adapter, if there is one."""
    left = published.keys() - {HEAD}
    for name, weight in _sums(model):
        if not name.startswith(f"{model.base_model_prefix}."):
            continue  # the head of the causal language model
        if name not in left:
            return name
        left.remove(name)
        wanted = published[name].get_tensor(name).to(weight)
        if wanted.shape != weight.shape or not torch.allclose(weight, wanted, rtol=RELATIVE, atol=ABSOLUTE):
            return name
    return min(left, default=None)


@torch.no_grad()
def _sums(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """The weights of the plain model with the reward adapter in them, one at a time."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            base = module.get_base_layer()
            yield f"{name}.weight", base.weight + (module.get_delta_weight(REWARD) if REWARD in module.lora_A else 0.0)
            if base.bias is not None:
                yield f"{name}.bias", base.bias
        elif isinstance(module, TrainableTokensWrapper):
            rows = module.token_adapter
            yield f"{name}.weight", rows.get_merged_weights([REWARD] if REWARD in rows.trainable_tokens_delta else [])
        elif not any(part in name for part in PARTS_OF_ADAPTERS):
            yield from ((f"{name}.{key}", weight) for key, weight in module.named_parameters(recurse=False))
