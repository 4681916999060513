"""An unusable params.yaml is reported before a stage imports its libraries, and no file changes."""

from typing import Any

import pytest

from groundup.runner.params import load_params
from tests.bad_input.checkout import snapshot
from tests.bad_input.conftest import Case, Checkout, assert_clear, case_id, run_here, unreached
from tests.bad_input.spoil import Spoil, an_empty_folder, append, both, delete, drop_param, replace, set_param, write

pytestmark = pytest.mark.tried("bad input", "params")

P = "params.yaml"
ADD, UNKNOWN, CHANGE = "missing; add it", "unknown key; remove it or correct its spelling", "change the value"
NUMBER, SYNTAX = "write the number without quotes", "correct that line"
LORA = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "target_modules": ["q_proj"]}
PACKAGE = "prepare.sources.0.package."
CURVE, VOCABULARY = "tokenizer.scratch.curve_vocab_sizes", "tokenizer.scratch.vocab_size"
HEADS, HEAD_PAIRS = "model.scratch.num_heads", "model.scratch.num_kv_heads"


def wrong(path: str, value: Any, what: str, remedy: str = CHANGE, where: str = "") -> Case:
    """A value of the wrong kind; the message must name its key."""
    return Case(f"{path} is {value!r:.30}", "prepare", set_param(path, value), f"{what} | {where or path}: | {remedy}")


def contradiction(path: str, value: Any, says: str) -> Case:
    """A value that is valid alone."""
    return Case(f"{path} {value!r:.30} contradicts", "align", set_param(path, value), says)


def text(name: str, spoil: Spoil, what: str, where: str = P, remedy: str = SYNTAX) -> Case:
    return Case(name, "prepare", spoil, f"{what} | {where} | {remedy}")


CASES = [
    Case("a section is missing", "prepare", drop_param("align"), f"missing | align: | {ADD}"),
    Case("a key is missing", "sft", drop_param("sft.seed"), f"missing | sft.seed: | {ADD}"),
    Case("a key of a source is missing", "prepare", drop_param("prepare.sources.0.licence"),
         f"missing | {PACKAGE}licence: | {ADD}"),
    Case("the kind of a source is missing", "prepare", drop_param("prepare.sources.0.kind"),
         f"kind | prepare.sources.0 | {ADD}"),
    Case("a key of an older version", "pretrain",
         both(drop_param("model.scratch"), set_param("model.hidden_size", 64)),
         "moved to model.scratch.hidden_size | 1 problem in | groundup configure --migrate"),
    Case("an unknown section", "prepare", set_param("surprise", {}), f"unknown key | surprise: | {UNKNOWN}"),
    Case("an unknown key", "pretrain", set_param("pretrain.momentum", 0.9),
         f"unknown key | pretrain.momentum: | {UNKNOWN}"),
    Case("an unknown key of a source", "prepare", set_param("prepare.sources.0.url", "x"),
         f"unknown key | {PACKAGE}url: | {UNKNOWN}"),
    Case("an unknown nested key", "prepare", set_param("prepare.splits.train", 0.5),
         f"unknown key | prepare.splits.train: | {UNKNOWN}"),
    wrong("pretrain.learning_rate", "1e-4", "'1e-4' is text", NUMBER),
    wrong("align.ppo.kl_coefficient", "0,1", "'0,1' is text", NUMBER),
    wrong("pretrain.num_steps", "750", "'750' is text", NUMBER),
    wrong("pretrain.num_steps", 7.5, "7.5", "write a whole number"),
    wrong("pretrain.num_steps", True, "True", "write a whole number"),
    wrong("pretrain.num_steps", None, "nothing", "write a whole number"),
    wrong("sft.learning_rate", None, "nothing", "write a number"),
    wrong("model.scratch.tie_embeddings", "yes", "'yes'", "write true or false"),
    wrong("model.scratch.tie_embeddings", 1, "got 1", "write true or false"),
    wrong("prepare.prompts.turns", 3, "got 3", "write a list"),
    wrong(CURVE, [280, "300"], "'300' is text", NUMBER, f"{CURVE}.1"),
    wrong("prepare.splits", [0.1, 0.2], "[0.1, 0.2]", "write keys and values"),
    wrong("evaluate", None, "nothing", "write keys and values"),
    wrong("reward.batch_size", {"a": 1}, "{'a': 1}", "write a whole number"),
    wrong("prepare.sources.0.version", 1.0, "got 1.0", "numbers in quotes", PACKAGE + "version"),
    wrong("pretrain.num_steps", -1, "greater than or equal to 0"),
    contradiction("pretrain.num_steps", 0, "which publishes model.base as it is | model.base is null | raise it"),
    wrong("reward.num_wrong_replies", 0, "greater than or equal to 1"),
    wrong("pretrain.learning_rate", -0.1, "greater than 0"),
    wrong("pretrain.learning_rate", float("inf"), "finite"),
    wrong("align.ppo.kl_target", float("nan"), "nan"),
    wrong("sft.warmup_fraction", 1.5, "less than or equal to 1"),
    wrong("prepare.splits.val", 0.0, "greater than 0"),
    wrong("pretrain.beta2", 1.0, "less than 1"),
    wrong("align.seed", 2**31, "less than 2147483648"),
    wrong("prepare.sources", [], "at least 1 item"),
    wrong("prepare.sources.0.sha256", "abc", "pattern", where=PACKAGE + "sha256"),
    wrong("prepare.sources.0.name", "My Source", "pattern", where=PACKAGE + "name"),
    wrong("prepare.sources.0.kind", "web", "'web'", "'package', 'files', 'hub'", "prepare.sources.0.kind"),
    wrong("prepare.evaluation.num_choices", 1, "greater than or equal to 2"),
    wrong("pretrain.optimizer", "sgd", "'sgd'", "'adamw' or 'muon'"),
    wrong("align.method", "reinforce", "'reinforce'", "'ppo', 'rloo', 'grpo' or 'dpo'"),
    wrong("align.ppo.value_trunk", "none", "'none'", "'separate' or 'shared'"),
    wrong("runtime.precision", "fp16", "'fp16'", "'fp32' or 'bf16'"),
    wrong("align.rewards", [], "at least 1 item"),
    wrong("align.rewards.1.kind", "rouge", "'rouge'", "'reward_model', 'length'"),
    wrong("align.rewards.1.kind", "repetition", "repetition appears more than once", where="align.rewards"),
    wrong("align.rewards.1.weight", -1.0, "greater than or equal to 0", where="align.rewards.1.length.weight"),
    wrong("align.rewards.0.pessimism", None, "nothing", "write a number", "align.rewards.0.reward_model.pessimism"),
    wrong("align.lora", {**LORA, "dropout": 0.1}, "dropout must be 0"),
    wrong("sft.lora", {**LORA, "target_modules": []}, "at least 1 item", where="sft.lora.target_modules"),
    wrong("prepare.clean.languages", [], "at least 1 item"),
    wrong("prepare.prompts.turns", [], "at least 1 item"),
    wrong("prepare.preferences.excerpt_turns", [], "at least 1 item"),
    contradiction(VOCABULARY, 100, f"bytes and special tokens alone | {VOCABULARY} | raise it"),
    contradiction(CURVE, [9], f"between 262 and | {CURVE} [9] | must lie"),
    contradiction(CURVE, [999], f"{VOCABULARY} 300 | {CURVE} [999] | must lie"),
    contradiction(HEADS, 3, f"multiple of 2 x {HEADS} | model.scratch.hidden_size 32 | must be"),
    contradiction(HEAD_PAIRS, 3, f"{HEADS} 2 | {HEAD_PAIRS} 3 | must divide"),
    contradiction("pretrain.warmup_steps", 4, "leave no room | pretrain.warmup_steps | lower one of them"),
    contradiction("sft.max_length", 999, "above model.context_length 128 | sft.max_length 999 | lower it"),
    contradiction("reward.max_length", 999, "above model.context_length 128 | reward.max_length 999 | lower it"),
    contradiction("align.rollout.max_new_tokens", 64,
                  "below model.context_length 128 | align.rollout.max_new_tokens = 128 | lower"),
    contradiction("evaluate.max_new_tokens", 128,
                  "below model.context_length 128 | evaluate.max_new_tokens 128 | lower"),
    contradiction("evaluate.decoding.max_new_tokens", 65,
                  "above half of model.context_length 128 | evaluate.decoding.max_new_tokens 65 | lower it"),
    contradiction("evaluate.decoding.num_beams", 5,
                  "below num_beams x max_new_tokens (80) | evaluate.decoding: budget_tokens 64 | raise it"),
    contradiction("align.minibatch_size", 3, "align.rollout.batch_size 4 | align.minibatch_size 3 | must divide"),
    contradiction("align.budgets.kl", 1.0, "align.ppo.kl_target 4.0 | align.budgets.kl 1.0 | must not be above"),
    contradiction("align.alarms.kl_stop", 7.0, "align.budgets.kl 8.0 | align.alarms.kl_stop 7.0 | must not be above"),
    contradiction("prepare.splits.test", 0.95, "nothing is left for train | prepare.splits | keep the sum below 1"),
    contradiction("prepare.prompts.turns", [1, 2], "ends on a user turn | prepare.prompts.turns | use odd numbers"),
    contradiction("prepare.preferences.excerpt_turns", [3], "assistant turn | excerpt_turns [3] | use even numbers"),
    contradiction("prepare.clean.max_characters", 10, "min_characters 20 | prepare.clean.max_characters 10 | raise"),
    Case("two sources of one name", "prepare", replace(P, "sources:", "sources:\n  - {kind: files, name: talk, "
         "paths: [a.txt], yields: text, text_column: text, licence: own}"),
         "names must differ | prepare.sources | got talk, talk"),
    text("an open bracket", append(P, "\nbroken: [1, 2"), "not valid YAML"),
    text("a wrong indentation", replace(P, "  seed: 4", "   seed: 4"), "not valid YAML"),
    text("a tab", append(P, "\nextra:\n\tseed: 1\n"), "'\\t'"),
    text("a key twice", append(P, "\nruntime:\n  num_threads: 2\n  precision: fp32\n"),
         'found duplicate key "runtime"'),
    text("a nested key twice", replace(P, "    num_layers: 1", "    num_layers: 1\n    num_layers: 2"),
         'found duplicate key "num_layers"'),
    text("conflict markers",
         replace(P, "    num_layers: 1", "<<<<<<< HEAD\n    num_layers: 1\n=======\n    num_layers: 2\n>>>>>>> other"),
         "git's conflict markers", "params.yaml, line ", "resolve the conflict"),
    text("an alias of nothing", append(P, "\nextra: *base\n"), "undefined alias 'base'"),
    text("a tag of Python", append(P, "\nextra: !!python/object/apply:os.system [id]\n"),
         "python/object/apply:os.system"),
    text("two documents", append(P, "\n---\na: 1\n"), "another document"),
    text("an empty file", write(P, ""), "got nothing", remedy="git show HEAD:params.yaml"),
    text("only comments", write(P, "# later\n"), "got nothing", remedy="git show HEAD:params.yaml"),
    text("a list", write(P, "- 1\n"), "got [1]", remedy="must hold sections"),
    text("one word", write(P, "later\n"), "got 'later'", remedy="must hold sections"),
    text("Latin-1", write(P, b"# gr\xfc\xdfe\n"), "not valid UTF-8", remedy="save it as UTF-8"),
    text("UTF-16", write(P, "a: 1".encode("utf-16")), "not valid UTF-8", remedy="save it as UTF-8"),
    text("binary junk", write(P, bytes(range(8)) * 40), "not valid YAML"),
    text("no file", delete(P), "is missing", remedy="git checkout -- params.yaml"),
    text("a folder", an_empty_folder(P), "is a folder", remedy="remove it"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_it_is_said_before_anything_is_touched(
    case: Case, checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    case.spoil(checkout.root)
    before = snapshot(checkout.root)
    outcome = run_here(checkout, case.stage, monkeypatch, unreached)
    assert_clear(case, outcome)
    assert outcome.message.startswith(f"{case.stage} failed: ")
    assert snapshot(checkout.root) == before


def test_all_problems_at_once(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values, keys and contradictions of several sections; a contradiction needs values that are valid alone."""
    for spoil in (set_param("sft.max_length", 999), set_param("align.minibatch_size", 3)):
        spoil(checkout.root)
    outcome = run_here(checkout, "prepare", monkeypatch, unreached)
    assert "2 problems in" in outcome.message
    for spoil in (set_param("surprise", 1), drop_param("sft.seed"), set_param("reward.batch_size", -1)):
        spoil(checkout.root)
    outcome = run_here(checkout, "prepare", monkeypatch, unreached)
    assert "3 problems in" in outcome.message
    for place in ("surprise:", "sft.seed:", "reward.batch_size:"):
        assert place in outcome.message


@pytest.mark.parametrize("number", ["1e-4", "1E-4", "1.0e-4", "0.0001", "+1e-4"])
def test_scientific_notation_is_a_number(checkout: Checkout, number: str) -> None:
    """In YAML 1.1 the first two are text; DVC and groundup use YAML 1.2."""
    replace(P, "kl_coefficient: 0.1", f"kl_coefficient: {number}")(checkout.root)
    assert load_params(checkout.root / P).align.ppo.kl_coefficient == 1e-4
