"""What the gold judge says, in sentences that always carry how well it tells what a person answered."""

from collections.abc import Mapping
from typing import Any

from groundup.evaluate.measures.overoptimization import Gain, Study
from groundup.evaluate.report.sentences import interval, number, percent

CHANCE = 0.5  # to find the given reply among two
KL_TOLERANCE = 0.25  # nats: a KL that differs by less is the same for best of n, whose n is whole


def gold_sentences(metrics: Mapping[str, Any], no_judge: str | None, study: Study | None) -> list[str]:
    if no_judge is not None:
        return [f"There is no gold judge ({no_judge}): what is said of reward is the reward model's own view."]
    assert study is not None
    return [_verdict(metrics), _trust(metrics), *_human(metrics), _best_of_n(metrics), *_study(study)]


def agreement(metrics: Mapping[str, Any]) -> str:
    return f"{number(metrics['judge_agreement'])} ({interval(metrics, 'judge_agreement')})"


def gold_method(metrics: Mapping[str, Any]) -> str:
    return (
        "Gold judge: TF-IDF, latent semantic analysis and logistic regression, fitted on the "
        f"{metrics['judge_num_conversations']} conversations of the judge split, which no training stage reads: of "
        "two replies of like length, which one did a person give there? It sees neither length nor what a reply "
        "copies from its conversation. The gold score is the log-odds that a reply fits, up to a constant; "
        f"agreement is the share of {metrics['judge_num_pairs']} such pairs that it gets right in conversations it "
        "was not fitted on, 0.5 being chance. What fits a conversation need not be what people like best. Intervals "
        "of gold figures are over other prompts and over judges fitted on resamples of these conversations. At "
        "equal length: logistic regression of the win on the difference in length, read off at no difference."
    )


def _verdict(metrics: Mapping[str, Any]) -> str:
    name = "win_rate_vs_sft_gold"
    if metrics[f"{name}_ci_low"] > 0.5:
        verdict = "beats the SFT model"
    elif metrics[f"{name}_ci_high"] < 0.5:
        verdict = "loses to the SFT model"
    else:
        verdict = "cannot be told apart from the SFT model"
    controlled = f"{name}_length_controlled"
    return (
        f"Under the gold judge the aligned model {verdict}: {_percents(metrics, name)} of its replies are preferred, "
        f"{_percents(metrics, controlled)} at equal length, and the mean gold score moves by "
        f"{number(metrics['gold_reward_difference'])} ({interval(metrics, 'gold_reward_difference')})."
    )


def _trust(metrics: Mapping[str, Any]) -> str:
    known = f"The judge finds the reply that a person gave with an accuracy of {agreement(metrics)} in held-out pairs"
    if metrics["judge_agreement_ci_low"] > CHANCE:
        return f"{known}; chance is {CHANCE}."
    return f"{known}: not better than chance as far as the interval tells, so its verdicts prove nothing either way."


def _human(metrics: Mapping[str, Any]) -> list[str]:
    if "gold_reward_human" not in metrics:
        return []
    return [
        f"What people answered to {metrics['num_human_replies']} of these prompts has a gold score of "
        f"{number(metrics['gold_reward_human'])} ({interval(metrics, 'gold_reward_human')}) and is preferred to the "
        f"SFT model's reply in {_percents(metrics, 'win_rate_human_vs_sft_gold')}: the mark for all models."
    ]


def _best_of_n(metrics: Mapping[str, Any]) -> str:
    kl, reached = metrics["aligned"]["kl_to_sft"], metrics["best_of_n_kl"]
    distance = f"KL {number(reached)}, aligned {number(kl)}"
    if kl > metrics["best_of_n_largest_kl"] + KL_TOLERANCE:
        distance += ", farther than the pool of replies reaches"
    gain = Gain(*(metrics[f"best_of_n_gold_difference{end}"] for end in ("", "_ci_low", "_ci_high")))
    return (
        f"Without training, the best of {metrics['best_of_n_n']} replies of the SFT model ({distance}) moves the gold "
        f"score by {_gain(gain)} on {metrics['best_of_n_num_prompts']} prompts."
    )


def _study(study: Study) -> list[str]:
    kept, best, farthest = study.kept, study.best, study.farthest
    if kept.gold.low > 0:
        follows = "gold rises with it"
    elif kept.gold.high < 0:
        follows = "gold falls meanwhile"
    else:
        follows = "gold does not measurably follow"
    turn = f"no turn of gold can be told up to KL {number(farthest.kl)}"
    if study.fall.high < 0:
        turn = f"gold turns at KL {number(best.kl)} and changes by {_gain(study.fall)} up to KL {number(farthest.kl)}"
    sentences = [
        f"Over-optimisation, in standard deviations of SFT's replies: at the kept policy (KL {number(kept.kl)}) the "
        f"reward model's score is up by {_gain(kept.proxy)}, the gold judge's by {_gain(kept.gold)}: {follows}; "
        f"{turn}."
    ]
    start = next(point for point in study.points if point.iteration == 0)
    if start.uncertainty > 0:
        sentences.append(
            "The reward model's own uncertainty (standard deviation of a score) goes from "
            f"{number(start.uncertainty)} on SFT's replies to {number(kept.uncertainty)} on those of the kept policy."
        )
    return sentences


def _gain(gain: Gain) -> str:
    return f"{number(gain.value)} ({number(gain.low)} to {number(gain.high)})"


def _percents(metrics: Mapping[str, Any], name: str) -> str:
    low, high = metrics[f"{name}_ci_low"], metrics[f"{name}_ci_high"]
    return f"{percent(metrics[name])} ({percent(low)} to {percent(high)})"
