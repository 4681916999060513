"""Evaluate the base, SFT and aligned models on the test split: a loop over MEASURES. `groundup report` shows it."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from groundup.core.judging.judge import Judge
from groundup.core.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.core.model.context import context_length
from groundup.core.model.llama import load_causal_lm
from groundup.core.model.scoring import RewardScorer
from groundup.core.rollout.engine import Builtin, RolloutEngine
from groundup.core.training.runtime import Log, set_up
from groundup.evaluate.gold import Absent, load_gold_judge, load_model_judge
from groundup.evaluate.harness.named import NamedTasks
from groundup.evaluate.held_out import load_test_set
from groundup.evaluate.measures import MEASURES
from groundup.evaluate.measures.measure import Context, Data, Measure
from groundup.evaluate.measures.overoptimization import read_points
from groundup.evaluate.model_judge.folder import ModelFolder
from groundup.evaluate.model_judge.independence import independence
from groundup.evaluate.model_judge.logprobs import FILE as LOGPROBS
from groundup.evaluate.model_judge.logprobs import KeptLogprobs
from groundup.evaluate.replies import fit_prompts, reply_to_prompts
from groundup.evaluate.shown import PAGE, Shown
from groundup.runner.base import Base
from groundup.runner.checkpoints import Processes
from groundup.runner.files import write_json
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.training import RuntimeParams
from groundup.runner.steps import FinishedSteps


def evaluate(
    base: Path,
    sft: Path,
    reward: Path,
    aligned: Path,
    data: Data,
    points: Path,
    out: Path,
    params: EvaluateParams,
    runtime: RuntimeParams,
    device: str,
    work: Path,
    kept: Path,
    model_judge: Path | None,
    open_base: Base | None,
    processes: Processes,
    log: Log,
    engine: RolloutEngine | None = None,
) -> dict[str, Any]:
    """Compute all figures; `out` gets replies, gates and the report's page as JSON. The curve's steps are 0 for base,
    1 for SFT and 2 for aligned. points: align's evaluation points. kept: the folder of answers that every run reuses.
    model_judge: the folder of the gold judge's model; without one, the gold judge is fitted. open_base: the open model
    that training started from. Several processes each read a share of the rows; the first one writes and returns the
    figures. engine: what samples replies; by default this process.
    """
    # Measure everything in float32: training precision must not blur small differences between models.
    torch_device = set_up(runtime, device, params.seed)
    named = NamedTasks(params.tasks, params.seed)
    test_set = load_test_set(data.text, data.prompts, data.evaluation, params)
    paths = {"base": base, "sft": sft, "aligned": aligned}
    for path in paths.values():
        check_model(path, CAUSAL)
    check_model(reward, REWARD)
    tokenizer = shared_tokenizer({**paths, "reward": reward})
    judge: Judge | Absent
    independent = None
    if model_judge:
        folder = ModelFolder.check(model_judge, params.model_judge)
        logprobs = KeptLogprobs(folder, torch_device, params.model_judge.batch_size, kept / LOGPROBS, processes)
        independent = independence(folder, paths, tokenizer, open_base)
        judge = load_model_judge(data.judge, logprobs, params)
    else:
        judge = load_gold_judge(data.judge, params.gold_judge)
    sft_model = load_causal_lm(sft, torch_device).eval()
    prompts = fit_prompts(tokenizer, test_set.prompts, context_length(sft_model, tokenizer), params.max_new_tokens)
    if not isinstance(judge, Absent):  # best of n and decoding meet few of these prompts
        judge = judge.centred_on([prompt.messages for prompt in prompts])
    context = Context(
        data=data,
        test_set=test_set,
        named=named,
        tokenizer=tokenizer,
        sft=sft_model,
        scorer=RewardScorer.load(reward, torch_device),
        judge=judge,
        independence=independent,
        points=read_points(points),
        prompts=prompts,
        kept=kept,
        engine=engine or Builtin(),
        steps=FinishedSteps(work / "steps", processes),
        params=params,
        out=out,
    )
    measures = [measure(context) for measure in MEASURES]
    metrics: dict[str, Any] = {}
    for step, (name, path) in enumerate(paths.items()):
        # No name holds the model, so that its memory is free when the next one is loaded.
        metrics[name] = measure_model(
            name, sft_model if name == "sft" else load_causal_lm(path, torch_device).eval(), context, measures
        )
        log(step, **metrics[name])
    metrics |= {"num_prompts": len(context.prompts), "num_documents": len(test_set.documents)}
    for measure in measures:
        metrics |= measure.of_all(metrics)
    parts = [measure.shown(metrics) for measure in measures]
    if not processes.is_first:
        return {}
    out.mkdir(parents=True, exist_ok=True)
    for measure in measures:
        measure.publish(metrics)
    everything = Shown()
    for shown in parts:
        everything.tiles.extend(shown.tiles)
        everything.sentences.extend(shown.sentences)
        everything.sections.extend(shown.sections)
        everything.method.extend(shown.method)
    write_json(out / PAGE, asdict(everything))
    return metrics


def measure_model(name: str, model: PreTrainedModel, context: Context, measures: Sequence[Measure]) -> dict[str, Any]:
    """The model's replies, into the context, and what every measure finds."""
    context.replies[name] = context.steps.get(
        f"{name}-replies",
        reply_to_prompts,
        context.engine,
        model,
        context.sft,
        context.scorer,
        context.tokenizer,
        context.prompts,
        context.params,
    )
    return {key: value for measure in measures for key, value in measure.of_model(name, model).items()}
