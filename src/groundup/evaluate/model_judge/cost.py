"""What a judge by a language model costs, in tokens that its model reads where no answer is kept yet."""

from dataclasses import dataclass
from math import ceil

from groundup.evaluate.controls import CONSTANTS, TEMPLATES, TITLES
from groundup.evaluate.gold import NUM_MOVES
from groundup.runner.params.evaluate import EvaluateParams, ModelJudgeParams

USUAL_KINDS = 4  # of conversations, as most data have them: the first exchange or later, after a question or not


@dataclass(frozen=True)
class Lengths:
    """Mean tokens of what is judged, by the judge's tokenizer."""

    conversation: float
    reply: float


def score_tokens(
    num_conversations: int, num_replies: int, num_different: int, lengths: Lengths, params: ModelJudgeParams
) -> int:
    """To score num_replies different replies to each of the conversations, num_different of them in all.

    Replies share a pass over a conversation, batch_size at a time: over their own, and over the params.num_others of
    each kind that their mean is over.
    """

    def read(replies: int) -> float:
        """To read as many replies to one conversation."""
        return ceil(replies / params.batch_size) * lengths.conversation + replies * lengths.reply

    elsewhere = params.num_others * USUAL_KINDS * read(ceil(num_different / USUAL_KINDS))
    return round(num_conversations * read(num_replies) + elsewhere)


def judge_tokens(
    params: EvaluateParams, num_validation_prompts: int, num_points: int, num_decoded: int, lengths: Lengths
) -> int:
    """Of all of evaluate. num_points: evaluation points of align; num_decoded: methods of the decoding table."""
    judge, best = params.model_judge, params.best_of_n
    chosen_on, moved = (min(judge.num_control_prompts, n) for n in (num_validation_prompts, params.num_prompts))
    parts = [  # conversations, replies to each, different replies in all
        (judge.num_pairs, 2, 2 * judge.num_pairs),  # the agreement
        # Base, SFT, aligned and people; the controls chosen by the judge and by that which is not centred, of which
        # only the echo and the template differ from prompt to prompt.
        (params.num_prompts, 4 + 2 * len(TITLES), (4 + 2 * 2) * params.num_prompts),
        (chosen_on, 1 + len(CONSTANTS) + len(TEMPLATES), (1 + len(TEMPLATES)) * chosen_on),
        # Moved to any conversation and within an opening: the aligned model's and SFT's replies, people's and SFT's.
        (4 * moved, 2 * NUM_MOVES, 3 * USUAL_KINDS * moved),
        (num_validation_prompts, num_points, num_validation_prompts * num_points),
        (best.num_prompts, best.num_replies, best.num_prompts * best.num_replies),
        (params.decoding.num_prompts, num_decoded, params.decoding.num_prompts * num_decoded),
    ]
    return sum(score_tokens(*part, lengths, judge) for part in parts)
