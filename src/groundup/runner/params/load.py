"""Read and validate the whole of params.yaml: all errors at once, each with its path and the remedy."""

from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails

from groundup.runner.files import DamagedFileError, read_yaml
from groundup.runner.params.align import AlignParams, align_checks
from groundup.runner.params.decoding import budget_problems
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.moved import ADDED, new_places
from groundup.runner.params.prepare import PrepareParams
from groundup.runner.params.section import Section
from groundup.runner.params.training import (
    ModelParams,
    PretrainParams,
    RewardParams,
    RuntimeParams,
    SftParams,
    TokenizerParams,
)

NUM_SPECIAL_TOKENS = 6
BYTE_ALPHABET = 256


class ParamsError(ValueError):
    """params.yaml cannot be used; the message lists every problem."""


class Params(Section):
    """All sections; the checks here are those that span sections."""

    prepare: PrepareParams
    tokenizer: TokenizerParams
    model: ModelParams
    pretrain: PretrainParams
    sft: SftParams
    reward: RewardParams
    align: AlignParams
    evaluate: EvaluateParams
    runtime: RuntimeParams

    @model_validator(mode="after")
    def _check_across_sections(self) -> "Params":
        problems = cross_section_problems(self)
        if problems:
            raise ValueError("\n".join(problems))
        return self


def cross_section_problems(p: Params) -> list[str]:
    """Contradictions between values that are each valid alone, one line per problem."""
    context, llama, vocabulary = p.model.context_length, p.model.scratch, p.tokenizer.scratch
    splits, relevance, rollout = p.prepare.splits, p.prepare.preferences.relevance, p.align.rollout
    names = [source.name for source in p.prepare.sources]
    held_out = splits.val + splits.test + splits.monitor + splits.judge
    checks = [
        (
            vocabulary.vocab_size > BYTE_ALPHABET + NUM_SPECIAL_TOKENS,
            f"tokenizer.scratch.vocab_size is {vocabulary.vocab_size}: bytes and special tokens alone need "
            f"{BYTE_ALPHABET + NUM_SPECIAL_TOKENS}; raise it above that",
        ),
        (
            all(
                BYTE_ALPHABET + NUM_SPECIAL_TOKENS <= size <= vocabulary.vocab_size
                for size in vocabulary.curve_vocab_sizes
            ),
            f"tokenizer.scratch.curve_vocab_sizes {vocabulary.curve_vocab_sizes} must lie between "
            f"{BYTE_ALPHABET + NUM_SPECIAL_TOKENS} and tokenizer.scratch.vocab_size {vocabulary.vocab_size}",
        ),
        (
            llama.hidden_size % (2 * llama.num_heads) == 0,
            f"model.scratch.hidden_size {llama.hidden_size} must be a multiple of 2 x model.scratch.num_heads "
            f"({2 * llama.num_heads}): rotary positions turn pairs of dimensions",
        ),
        (
            llama.num_heads % llama.num_kv_heads == 0,
            f"model.scratch.num_kv_heads {llama.num_kv_heads} must divide model.scratch.num_heads {llama.num_heads}",
        ),
        (
            p.pretrain.num_steps > 0 or p.model.base is not None,
            "pretrain.num_steps is 0, which publishes model.base as it is, but model.base is null: raise it",
        ),
        (
            p.pretrain.num_steps == 0
            or p.pretrain.warmup_steps + p.pretrain.decay_fraction * p.pretrain.num_steps <= p.pretrain.num_steps,
            "pretrain.warmup_steps and pretrain.decay_fraction leave no room in pretrain.num_steps "
            f"{p.pretrain.num_steps}: lower one of them",
        ),
        (
            p.pretrain.lora is None or p.model.base is not None,
            "pretrain.lora adapts model.base, but model.base is null, so all weights are random: set pretrain.lora to "
            "null",
        ),
        (
            p.pretrain.lora is None or p.pretrain.optimizer == "adamw",
            "pretrain.optimizer is muon, which is for whole weights: with pretrain.lora set it to adamw",
        ),
        (
            p.sft.max_length <= context,
            f"sft.max_length {p.sft.max_length} is above model.context_length {context}: lower it",
        ),
        (
            p.reward.max_length <= context,
            f"reward.max_length {p.reward.max_length} is above model.context_length {context}: lower it",
        ),
        *(
            (
                section.checkpoint_every % section.log_every == 0,
                f"{name}.checkpoint_every {section.checkpoint_every} must be a multiple of {name}.log_every "
                f"{section.log_every}: a run continues exactly only from a step that is logged",
            )
            for name, section in (("sft", p.sft), ("reward", p.reward))
        ),
        (
            rollout.max_prompt_tokens + rollout.max_new_tokens < context,
            "align.rollout.max_prompt_tokens + align.rollout.max_new_tokens = "
            f"{rollout.max_prompt_tokens + rollout.max_new_tokens} "
            f"must be below model.context_length {context}, because a reply without an end gets an end token before "
            "it is scored: lower one of them",
        ),
        (
            p.evaluate.max_new_tokens < context,
            f"evaluate.max_new_tokens {p.evaluate.max_new_tokens} must be below model.context_length {context}: "
            "lower it",
        ),
        (
            p.evaluate.decoding.max_new_tokens <= context // 2,
            f"evaluate.decoding.max_new_tokens {p.evaluate.decoding.max_new_tokens} is above half of "
            f"model.context_length {context}: lower it",
        ),
        (
            p.evaluate.judge != "model" or p.evaluate.model_judge.path is not None,
            "evaluate.judge is model and evaluate.model_judge.path is null: give the folder of a causal model",
        ),
        *((False, f"evaluate.decoding: {problem}") for problem in budget_problems(p.evaluate.decoding).values()),
        (
            p.sft.lora is None or "lm_head" not in p.sft.lora.target_modules,
            "sft.lora.target_modules: SFT cannot train an adapter of lm_head; leave it out",
        ),
        *align_checks(p.align),
        (
            p.prepare.clean.min_characters <= p.prepare.clean.max_characters,
            f"prepare.clean.max_characters {p.prepare.clean.max_characters} is below prepare.clean.min_characters "
            f"{p.prepare.clean.min_characters}, so every document would be dropped: raise it",
        ),
        (
            held_out < 1,
            f"prepare.splits sum to {held_out:.3g}: nothing is left for train; keep the sum below 1",
        ),
        (
            len(set(names)) == len(names),
            f"prepare.sources: names must differ, got {', '.join(names)}",
        ),
        (
            all(turns % 2 == 1 for turns in p.prepare.prompts.turns),
            f"prepare.prompts.turns {p.prepare.prompts.turns}: a prompt ends on a user turn, so use odd numbers",
        ),
        (
            all(turns % 2 == 0 for turns in p.prepare.preferences.excerpt_turns),
            f"prepare.preferences.excerpt_turns {p.prepare.preferences.excerpt_turns}: an excerpt ends on an "
            "assistant turn, so use even numbers",
        ),
        (
            all(turns % 2 == 0 for turns in relevance.turns),
            f"prepare.preferences.relevance.turns {relevance.turns}: an excerpt ends on an "
            "assistant turn, so use even numbers",
        ),
        (
            relevance.earlier_turn_fraction + relevance.same_opening_fraction <= 1,
            "prepare.preferences.relevance: earlier_turn_fraction and same_opening_fraction are "
            f"{relevance.earlier_turn_fraction + relevance.same_opening_fraction:.3g} together, shares of the same "
            "pairs: keep the sum at 1 or below",
        ),
    ]
    return [problem for holds, problem in checks if not holds]


# How other tools spell it
QUANTIZATION = ("quantize", "quantization", "quantization_config", "load_in_4bit", "load_in_8bit")
COMMITTED = "`git show HEAD:params.yaml`"
# pydantic's names of errors -> what to write instead
WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "string_type": "text, numbers in quotes",
    "list_type": "a list: [...]",
    "model_type": "keys and values, indented below it",
    "model_attributes_type": "keys and values, indented below it",
}


def load_params(path: Path) -> Params:
    """Validated params; ParamsError names every problem."""
    return parse_params(read_sections(path), str(path))


def read_sections(path: Path) -> dict[str, Any]:
    """The sections as the file has them, not validated."""
    if not path.exists():
        raise ParamsError(f"{path} is missing: restore it with `git checkout -- {path.name}`")
    try:
        values = read_yaml(path, "correct that line")
    except DamagedFileError as error:
        raise ParamsError(str(error)) from None
    if not isinstance(values, dict):
        got = "nothing" if values is None else f"{values!r:.40}"
        raise ParamsError(
            f"{path} must hold sections ({', '.join(Params.model_fields)}), got {got}: {COMMITTED} shows them"
        )
    return values


def parse_params(values: dict[str, Any], origin: str) -> Params:
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [line for detail in _without_consequences(error.errors()) for line in _explain(detail)]
        count = f"{len(lines)} problem" + ("s" if len(lines) > 1 else "")
        raise ParamsError(f"{count} in {origin}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _where(detail: ErrorDetails) -> str:
    return ".".join(str(part) for part in detail["loc"])  # for a source, its kind is a part of the path


def _without_consequences(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leave out keys that are missing only because the file has them where an older version had them."""
    moved = [place for detail in details for place in new_places(_where(detail))]
    expected = [*moved, *ADDED] if moved else []
    return [
        detail
        for detail in details
        if detail["type"] != "missing" or not any(f"{place}.".startswith(f"{_where(detail)}.") for place in expected)
    ]


def _explain(detail: ErrorDetails) -> list[str]:
    where = _where(detail)
    got = "nothing" if detail["input"] is None else f"{detail['input']!r:.60}"
    match detail["type"]:
        case "missing":
            return [f"{where}: missing; add it ({COMMITTED} shows every key)"]
        case "union_tag_not_found":
            return [f"{where}.kind: missing; add it (params.yaml and data/README.md show the kinds)"]
        case "union_tag_invalid":
            tag, expected = detail["ctx"]["tag"], detail["ctx"]["expected_tags"]
            return [f"{where}.kind: {tag!r} is not a kind of this; use {expected}"]
        case "extra_forbidden" if places := new_places(where):
            return [f"{where}: moved to {' and '.join(places)}; `groundup configure --migrate` rewrites the file"]
        case "extra_forbidden" if where.rpartition(".")[2] in QUANTIZATION:
            return [
                f"{where}: QLoRA is not supported, on CPUs as on GPUs: adapters are of weights in full precision. "
                "Remove the key; if memory is short, `groundup plan` says what to lower, or take a smaller model.base"
            ]
        case "extra_forbidden":
            return [f"{where}: unknown key; remove it or correct its spelling"]
        case "value_error":
            problems = str(detail["ctx"]["error"]).split("\n")
            return [f"{where}: {problem}; change the value" for problem in problems] if where else problems
        case "float_type" | "int_type" if isinstance(detail["input"], str):
            return [f"{where}: {detail['input']!r} is text; write the number without quotes"]
        case kind if kind in WANTED:
            return [f"{where}: got {got}; write {WANTED[kind]}"]
        case _:
            return [f"{where}: {detail['msg']}, got {got}; change the value"]
