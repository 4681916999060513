"""Params of a gate: a condition that a model must meet, in reward and evaluate."""

from typing import Literal

from pydantic import field_validator

from groundup.runner.params.section import Count, FiniteFloat, Section


class GateParams(Section):
    """`metric` may be inside a group, as in aligned.kl_to_sft."""

    name: str
    metric: str
    bound: Literal["above", "at_least", "at_most", "within"]
    limit: FiniteFloat
    min_items: Count

    @field_validator("metric")
    @classmethod
    def _is_a_figure(cls, metric: str) -> str:
        if metric.endswith(("_ci_low", "_ci_high")):
            figure = metric.removesuffix("_ci_low").removesuffix("_ci_high")
            raise ValueError(
                f"name the figure itself, {figure}: a gate looks at its whole interval, and limit is the margin that "
                "you accept"
            )
        return metric
