"""The report card: base, SFT and aligned model on the test split."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.core.decoding.assistant import Assistant
from groundup.core.judging.statistics import wins
from groundup.core.model.check import CAUSAL, REWARD, check_model, shared_tokenizer
from groundup.core.model.llama import load_causal_lm
from groundup.core.model.scoring import RewardScorer
from groundup.core.training.runtime import Log, draw, set_up
from groundup.evaluate.gates import check_gates
from groundup.evaluate.gold import Absent, gold_metrics, human_metrics, load_gold_judge
from groundup.evaluate.harness.named import NamedTasks, metric_name
from groundup.evaluate.harness.suite import Suite
from groundup.evaluate.held_out import contaminated, load_test_set
from groundup.evaluate.intervals import with_interval
from groundup.evaluate.measures.best_of_n import best_of_n_metrics, reply_pool
from groundup.evaluate.measures.contamination import contamination_metrics
from groundup.evaluate.measures.decoding import decode_by_every_method, decoding_metrics
from groundup.evaluate.measures.overoptimization import FILE, read_points, study
from groundup.evaluate.pairwise.tournament import gold_standings, make_entrants
from groundup.evaluate.probes.exposure import read_canaries
from groundup.evaluate.probes.figures import change_figures, model_figures
from groundup.evaluate.probes.items import load_probe_sets
from groundup.evaluate.probes.measure import Values, measure_probes
from groundup.evaluate.replies import ModelReplies, Prompt, fit_prompts, reply_metrics, reply_to_prompts
from groundup.evaluate.report.build import ReportInputs, write_report
from groundup.evaluate.report.curves import read_columns
from groundup.evaluate.report.tasks import Measured
from groundup.runner.files import hash_file
from groundup.runner.params.evaluate import EvaluateParams
from groundup.runner.params.training import RuntimeParams
from groundup.runner.steps import FinishedSteps


def evaluate(
    base: Path,
    sft: Path,
    reward: Path,
    aligned: Path,
    shards: Path,
    text: Path,
    chats: Path,
    preferences: Path,
    prompts: Path,
    evaluation: Path,
    judge: Path,
    align_report: Path,
    curves: Mapping[str, Path],
    reports: Mapping[str, Path],
    ancestry: Mapping[str, Sequence[str]],
    out: Path,
    params: EvaluateParams,
    runtime: RuntimeParams,
    device: str,
    work: Path,
    verdicts: Path,
    log: Log,
) -> dict[str, Any]:
    """Measures the three models and writes the report; the curve's steps are 0 base, 1 SFT, 2 aligned.

    text, prompts: directories with a test.jsonl; their train.jsonl, that of chats and of preferences, and the shards
    are what the models were trained on: for n-grams and contamination. evaluation: tasks, one JSONL file each. judge:
    the conversations of the judge split. align_report: with its evaluation points. verdicts: a file that keeps what a
    paid judge said. curves, reports: a stage's CSV and report directory; what does not exist is left out. ancestry:
    the stages, each with those that it reads from.
    """
    # Everything is measured in float32: precision of training must not blur small differences between models.
    torch_device = set_up(runtime, device, params.seed)
    named = NamedTasks(params.tasks, params.seed)
    test_set = load_test_set(text, prompts, evaluation, params)
    paths = {"base": base, "sft": sft, "aligned": aligned}
    for path in paths.values():
        check_model(path, CAUSAL)
    check_model(reward, REWARD)
    tokenizer = shared_tokenizer({**paths, "reward": reward})
    sft_model = load_causal_lm(sft, torch_device).eval()
    scorer = RewardScorer.load(reward, torch_device)
    fitted = fit_prompts(tokenizer, test_set.prompts, sft_model.config.max_position_embeddings, params.max_new_tokens)
    curves = {stage: path for stage, path in curves.items() if path.exists()}
    for path in curves.values():
        read_columns(path)  # a damaged one is said now, not after the measuring
    points = read_points(align_report / FILE)
    gold_judge = load_gold_judge(judge, params.gold_judge)
    steps = FinishedSteps(work / "steps")
    context_length = sft_model.config.max_position_embeddings
    suite = Suite(test_set.documents, test_set.tasks, named, tokenizer, context_length, steps, params)
    canaries = read_canaries(evaluation)
    probes = load_probe_sets()
    values: dict[str, Values] = {}
    scores: dict[str, dict[str, float]] = {}
    replies: dict[str, ModelReplies] = {}
    for name, path in paths.items():
        model = load_causal_lm(path, torch_device).eval()
        scores[name] = suite.model_scores(name, model)
        replies[name] = steps.get(
            f"{name}-replies", reply_to_prompts, model, sft_model, scorer, tokenizer, fitted, params
        )
        scores[name] |= reply_scores(replies[name], fitted, params)
        values[name] = steps.get(f"{name}-probes", measure_probes, model, tokenizer, probes, canaries, params)
        scores[name] |= model_figures(values[name], params)
    baselines = {"untrained": suite.untrained_scores(sft_model), **suite.ngram_scores(shards, chats / "train.jsonl")}
    shares = steps.get("contamination", contaminated, test_set, named, text, chats, preferences, prompts, params)
    metrics: dict[str, Any] = {**scores, **baselines, **contamination_metrics(shares)}
    for opponent in ("sft", "base"):
        won = wins(replies["aligned"]["rewards"], replies[opponent]["rewards"]).tolist()
        metrics |= with_interval(f"win_rate_vs_{opponent}", won, [p.conversation_id for p in fitted], params)
    metrics |= change_figures(values["sft"], values["aligned"], params)
    entrants = make_entrants(fitted, replies, points)
    standings = []
    overoptimization = None
    if not isinstance(gold_judge, Absent):
        metrics |= gold_metrics(gold_judge, fitted, replies["sft"], replies["aligned"], params)
        metrics |= human_metrics(gold_judge, fitted, replies["sft"], params)
        few = draw(fitted, params.best_of_n.num_prompts, params.seed)
        pool = steps.get("best-of-n", reply_pool, sft_model, scorer, tokenizer, few, params)
        metrics |= best_of_n_metrics(gold_judge, few, pool, metrics["aligned"]["kl_to_sft"], params)
        standings.append(gold_standings(gold_judge, entrants, params))
        overoptimization = study(points, gold_judge, params.bootstrap_samples, params.seed)
    decoded_prompts = draw(fitted, params.decoding.num_prompts, params.seed)
    assistant = Assistant(model, tokenizer, scorer)
    decoded = decode_by_every_method(steps, assistant, decoded_prompts, params)
    metrics |= decoding_metrics(gold_judge, decoded_prompts, decoded, params)
    if params.judge == "openai":
        from groundup.evaluate.pairwise.openai_games import openai_standings  # its client takes a second to import

        standings.append(openai_standings(params, verdicts, entrants))
    for judged_by in standings:
        metrics |= judged_by.metrics
    metrics |= {"num_prompts": len(fitted), "num_documents": len(test_set.documents)}
    sources = sorted({row["source"] for row in test_set.documents})
    gates = check_gates(metrics, params.gates)
    metrics["gates_passed"] = int(all(gate.passed for gate in gates))
    for step, figures in enumerate(scores.values()):
        log(step, **figures)
    write_report(
        ReportInputs(
            metrics=metrics,
            measured=Measured(
                tasks={name: len(items) for name, items in test_set.tasks.items()},
                sources=sources,
                named=[metric_name(name) for name in (*named.tasks, *named.groups)],
                ngram_order=params.ngram.order,
                num_untrained_items=params.num_untrained_items,
            ),
            num_documents_in_split=test_set.num_documents_in_split,
            prompts=fitted,
            replies=replies,
            curves=curves,
            reports={stage: path for stage, path in reports.items() if path.exists()},
            ancestry=ancestry,
            made={
                "prepare": "text of " + ", ".join(sources),
                "tokenizer": f"{len(tokenizer):,} tokens",
                "evaluate": "this report",
            },
            weights={
                stage: hash_file(path / "model.safetensors")[:12]
                for stage, path in {"pretrain": base, "sft": sft, "reward": reward, "align": aligned}.items()
            },
            no_judge=gold_judge.reason if isinstance(gold_judge, Absent) else None,
            overoptimization=overoptimization,
            decoded_prompts=decoded_prompts,
            decoded=decoded,
            standings=standings,
            values=values,
            gates=gates,
            params=params,
        ),
        out,
    )
    return metrics


def reply_scores(replies: ModelReplies, prompts: Sequence[Prompt], params: EvaluateParams) -> dict[str, float]:
    conversations = [prompt.conversation_id for prompt in prompts]
    return {
        **with_interval("reward", replies["rewards"], conversations, params),
        **with_interval("kl_to_sft", replies["kl"], conversations, params),
        **reply_metrics(replies),
    }
