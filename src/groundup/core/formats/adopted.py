"""The tokenizer of an open model, made ready for all stages: its end of turn, padding and chat template."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from groundup.core.formats.chat_format import CHAT_TEMPLATE, PAD, TEMPLATE_TOKENS, document_ends, render
from groundup.core.formats.chat_proofs import dialogues, problems_of
from groundup.core.formats.chat_template import ANSWER, ANSWERED, ASKED, apply
from groundup.core.formats.control_tokens import first_control_token, unknown_id

GROUNDUP = "groundup"  # the name of groundup's own template, for models that have none
CHOOSE = (
    f"set model.chat_template to {GROUNDUP}, whose tokens are added to the vocabulary, or put another Jinja template "
    "into chat_template.jinja before you fetch the folder"
)
NEEDLESS = ("reserved", "unused", "extra")  # in names of tokens that nobody has a use for


@dataclass(frozen=True)
class Adopted:
    tokenizer: PreTrainedTokenizerFast
    template: str  # whose chat template it is
    num_added: int  # tokens that the model's embeddings have no row for, unless its vocabulary is padded


def adopt_tokenizer(folder: Path, template: str | None) -> Adopted:
    """The tokenizer in `folder`, with the chat template given, by its text or as GROUNDUP, or else its own.

    Its vocabulary and template stay as they are. eos_token becomes the template's end of turn, pad_token one that no
    chat holds, and groundup's template brings its tokens. ValueError lists everything that makes it unfit.
    """
    adopted, problems = _adopt(folder, template)
    if adopted is None or problems:
        raise ValueError(f"the tokenizer in {folder} cannot be used: {'; '.join(problems)}")
    return adopted


def check_chat_format(folder: Path, template: str | None = None) -> list[str]:
    """What makes the tokenizer and the chat template of a model unfit, and what to do; empty if nothing does."""
    return _adopt(folder, template)[1]


def added_token_ids(tokenizer: PreTrainedTokenizerFast, base: Path) -> list[int]:
    """Ids that the model in `base` was never trained on: rows of its embeddings that are new, or were padding."""
    known = read_tokenizer(base).get_vocab().keys()
    return sorted(token_id for token, token_id in tokenizer.get_vocab().items() if token not in known)


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """As tokenizer.json says, whatever class of transformers the model's authors named."""
    if not (folder / "tokenizer.json").is_file():
        raise ValueError(f"{folder} has no tokenizer.json, which `groundup fetch` writes: fetch the model again")
    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    except Exception as error:  # the tokenizers library raises no narrower class
        raise ValueError(f"the tokenizer in {folder} cannot be read ({error}): fetch the model again") from None
    # Texts are tokenized whole and as they are, whatever was saved with the tokenizer.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.split_special_tokens = False
    tokenizer.clean_up_tokenization_spaces = False
    return tokenizer


def _adopt(folder: Path, template: str | None) -> tuple[Adopted | None, list[str]]:
    try:
        tokenizer = read_tokenizer(folder)
    except ValueError as error:
        return None, [str(error)]
    num_tokens = len(tokenizer)
    if isinstance(tokenizer.chat_template, dict):  # named ones, for tools or retrieval
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    if template is not None:
        tokenizer.chat_template = CHAT_TEMPLATE if template == GROUNDUP else template
    if tokenizer.chat_template is None:
        return None, [f"it has no chat template and none was chosen: {CHOOSE}"]
    chosen = "the model's" if template is None else "the chosen one"
    if tokenizer.chat_template == CHAT_TEMPLATE:
        chosen = "groundup's"
        _add_special(tokenizer, TEMPLATE_TOKENS)
    problems = _make_ready(tokenizer)
    if problems and _take_training_template(tokenizer):
        chosen, problems = "TRL's training template for the model's", []
    if problems:
        problems = [f"{'; '.join(problems)}: {CHOOSE}"]
    return Adopted(tokenizer, chosen, len(tokenizer) - num_tokens), problems


def _make_ready(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Name the end of turn and padding; returns what is unfit."""
    try:
        ends = {_end_of_turn(tokenizer, after) for after in ([], ASKED)}
    except ValueError as error:
        return [str(error)]
    if None in ends:
        return ["its chat template writes no special token behind a reply, so the model would never stop"]
    if len(ends) > 1:
        return [f"its chat template ends replies with {' or '.join(sorted(map(str, ends)))}, not always with the same"]
    (end,) = ends
    _name_special(tokenizer, "eos_token", str(end))
    try:
        _name_special(tokenizer, "pad_token", _padding(tokenizer))
    except ValueError as error:
        return [str(error)]
    return problems_of(tokenizer)


def _end_of_turn(tokenizer: PreTrainedTokenizerFast, after: Sequence[dict[str, str]]) -> str | None:
    """The first control token behind a reply, with the given messages after it."""
    text = apply(tokenizer, [*ANSWERED, *after], reply_next=bool(after))
    if ANSWER not in text:
        raise ValueError("its chat template does not write the contents of replies")
    return first_control_token(tokenizer, text.rpartition(ANSWER)[2])


def _padding(tokenizer: PreTrainedTokenizerFast) -> str:
    """The model's own if no chat and no document holds it, else another that nothing needs, else a new one."""
    used = {tokenizer.eos_token_id, *document_ends(tokenizer)}
    used |= {token for messages in dialogues() for token in render(tokenizer, messages, reply_next=False)}
    free = [
        token.content
        for token_id, token in tokenizer.added_tokens_decoder.items()
        if token.special and token_id not in used and token.content not in tokenizer.chat_template
    ]
    free = [token for token in free if token != tokenizer.unk_token or unknown_id(tokenizer) is None]
    if tokenizer.pad_token in free:
        return str(tokenizer.pad_token)
    named = [token for token in free if "pad" in token.lower()]
    needless = [token for token in free if token == tokenizer.unk_token or any(word in token for word in NEEDLESS)]
    for token in (*named, *needless, *free):
        return token
    _add_special(tokenizer, [PAD])
    return PAD


def _take_training_template(tokenizer: PreTrainedTokenizerFast) -> bool:
    """TRL's variant of exactly this template, which renders turns alike wherever they stand, if it is fit.

    It must write the model's own text for a first exchange. Later ones are where the model's own template is unfit:
    Qwen3's takes the empty thoughts out of earlier replies.
    """
    from trl.chat_template_utils import get_training_chat_template  # imports all of TRL

    own = tokenizer.chat_template
    first = [messages for messages in dialogues() if len(messages) <= len("sua")]
    try:
        texts = [apply(tokenizer, messages, reply_next=False) for messages in first]
        training = get_training_chat_template(tokenizer)
        if training is None:
            return False
        tokenizer.chat_template = training
        alike = texts == [apply(tokenizer, messages, reply_next=False) for messages in first]
        if alike and not _make_ready(tokenizer):
            return True
    except Exception:  # a template that TRL does not know, or that cannot be rendered
        pass
    tokenizer.chat_template = own
    return False


def _add_special(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> None:
    known = tokenizer.get_vocab()
    missing = [AddedToken(token, special=True, normalized=False) for token in tokens if token not in known]
    tokenizer.add_tokens(missing, special_tokens=True)


def _name_special(tokenizer: PreTrainedTokenizerFast, role: str, token: str) -> None:
    """Also for tokens that were added as ordinary ones: decoding leaves out special tokens only."""
    added = {known.content: known for known in tokenizer.added_tokens_decoder.values()}[token]
    special = AddedToken(
        token,
        single_word=added.single_word,
        lstrip=added.lstrip,
        rstrip=added.rstrip,
        normalized=added.normalized,
        special=True,
    )
    tokenizer.add_special_tokens({role: special})
