"""A judge with a known verdict: one point more for every `lovely`, by every resample unless set otherwise."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core.formats.records import Message
from groundup.core.judging.judge import Agreement
from groundup.runner.params.decoding import DecodingParams
from groundup.runner.params.evaluate import (
    BestOfNParams,
    EvaluateParams,
    ModelJudgeParams,
    NgramParams,
    OpenAIJudgeParams,
    ProbesParams,
)
from groundup.runner.params.gates import GateParams
from groundup.runner.params.judge import JudgeParams

GOLD_PARAMS = JudgeParams(
    seed=1,
    max_turns=8,
    min_document_frequency=2,
    num_dimensions=8,
    copied_words=3,
    common_words=0.2,
    inverse_regularization=0.1,
    num_folds=2,
    num_resamples=10,
    bootstrap_samples=20,
)
OPENAI_PARAMS = OpenAIJudgeParams(
    base_url=None,
    model="stub",
    num_prompts=3,
    max_tokens=4,
    timeout_seconds=5.0,
    max_retries=1,
    concurrency=2,
    dollars_per_million_prompt_tokens=1.0,
    dollars_per_million_completion_tokens=2.0,
    max_cost_dollars=1.0,
)
PARAMS = EvaluateParams(
    seed=5,
    judge="builtin",
    openai=OPENAI_PARAMS,
    model_judge=ModelJudgeParams(
        path=None, digest=None, max_length=128, batch_size=4, num_others=2, num_pairs=50, num_control_prompts=3
    ),
    gold_judge=GOLD_PARAMS,
    batch_size=4,
    num_documents=3,
    tasks=[],
    num_untrained_items=2,
    ngram=NgramParams(order=3, max_tokens=1000),
    contamination_ngram=3,
    max_new_tokens=6,
    temperature=1.0,
    num_prompts=4,
    best_of_n=BestOfNParams(num_prompts=2, num_replies=3, batch_size=4),
    decoding=DecodingParams(
        num_prompts=2,
        seed=8,
        max_new_tokens=6,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        repetition_penalty=1.0,
        num_beams=2,
        n=8,
        keep=2,
        depth=2,
        budget_tokens=24,
        pessimism=1.0,
    ),
    probes=ProbesParams(num_replies=1, num_references=63),
    gates=[GateParams(name="close", metric="aligned.kl_to_sft", bound="at_most", limit=1.0, min_items=2)],
    watts=30.0,
    num_samples=2,
    bootstrap_samples=200,
)
AGREEMENT = Agreement(
    accuracy=0.75, accuracy_ci_low=0.625, accuracy_ci_high=0.875, num_pairs=200, num_conversations=40
)


@dataclass(frozen=True)
class CountingJudge:
    worth: tuple[float, ...] = (1.0, 1.0, 1.0)  # of the word, by resample
    agreement: Agreement = AGREEMENT

    def centred_on(self, conversations: list[list[Message]]) -> "CountingJudge":
        return self

    def read_ahead(self, chats: list[list[Message]]) -> None:
        pass

    def uncentred(self) -> "CountingJudge":
        return self

    def score(self, chats: list[list[Message]]) -> NDArray[np.float64]:
        return self.score_by_resample(chats)[0]

    def score_by_resample(self, chats: list[list[Message]]) -> NDArray[np.float64]:
        counts = np.array([" ".join(m["content"] for m in chat).count("lovely") for chat in chats], dtype=np.float64)
        return np.outer(self.worth, counts)
