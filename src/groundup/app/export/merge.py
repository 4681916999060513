"""A model with exported adapters merged into it, as a model of its own: from a base to what was trained of it."""

from collections.abc import Sequence
from pathlib import Path

from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from groundup.app.export.hf import ADAPTER_FILES
from groundup.app.export.target import written
from groundup.core.formats.adopted import adopt_tokenizer
from groundup.core.formats.chat_format import load_tokenizer
from groundup.core.model.llama import save_model
from groundup.core.model.open_model import load_open_model
from groundup.core.model.verify import verify_passes
from groundup.core.training.adapters import ignore_deprecation, merged
from groundup.runner.files import read_object

TOKENIZER_CONFIG = "tokenizer_config.json"  # names the context length, which a base leaves open
CARD = """---
library_name: transformers
---
# groundup merged model

The model {model} with the LoRA adapters {adapters} merged into its weights, in this order. The licences of the model
and of the adapters hold for this one too. What it says can be false.
"""


def merge_adapters(model: Path, adapters: Sequence[Path], target: Path) -> None:
    """Write the model in `model` with `adapters` in its weights, each trained on the result of those before it.

    adapters: folders as `groundup export --to adapter` writes them. The last one's tokenizer is the merged model's:
    rows for tokens that the model in `model` lacks are made, and the adapters bring their values.
    """
    for adapter in adapters:
        if lacking := [name for name in ADAPTER_FILES if not (adapter / name).is_file()]:
            raise ValueError(
                f"{adapter} is not an adapter, it lacks {', '.join(lacking)}: `groundup export --to adapter` writes "
                "such a folder"
            )
    tokenizer = _tokenizer(model, adapters[-1])
    with written(target, "--as") as beside:
        plain = load_open_model(model, tokenizer, context_length=1)  # which is chosen when it is trained on
        for adapter in adapters:
            plain = _with_adapter(plain, adapter)
        verify_passes(plain)
        names = ", ".join(adapter.resolve().name for adapter in adapters)
        beside.mkdir()
        save_model(plain, tokenizer, beside, CARD.format(model=model.resolve().name, adapters=names))


def _tokenizer(model: Path, adapter: Path) -> PreTrainedTokenizerFast:
    """The adapter's; without one, the model's own as the tokenizer stage makes it ready: it takes more room than a
    small adapter, and is the same unless another chat template was chosen. The context is still the adapter's.
    """
    if (adapter / "tokenizer.json").is_file():
        return load_tokenizer(str(adapter))
    try:
        tokenizer = adopt_tokenizer(model, None).tokenizer
    except ValueError as error:
        raise ValueError(f"{adapter} has no tokenizer.json, which `groundup export` writes, and {error}") from None
    config = adapter / TOKENIZER_CONFIG
    if not config.is_file():
        raise ValueError(f"{adapter} lacks {TOKENIZER_CONFIG}, which says how long its chats may be: export it again")
    tokenizer.model_max_length = read_object(config)["model_max_length"]
    return tokenizer


def _with_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    ignore_deprecation()
    try:
        config = PeftConfig.from_pretrained(folder)
        if not isinstance(config, LoraConfig):
            raise ValueError("it is not a LoRA adapter")
        adapted = PeftModel.from_pretrained(model, folder, config=config)
        needed = get_peft_model_state_dict(adapted).keys()
        weights = load_file(folder / "adapter_model.safetensors")
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"the adapter in {folder} does not fit the model, or is damaged: {error}") from None
    if broken := sorted(name for name, weight in weights.items() if not weight.isfinite().all()):
        raise ValueError(f"the adapter in {folder} has {len(broken)} weights that are not finite, such as {broken[0]}")
    if different := sorted(needed ^ weights.keys()):
        raise ValueError(
            f"the adapter in {folder} does not fit the model: {len(different)} weights are only in one of them, such "
            f"as {different[0]}"
        )
    return merged(adapted)
