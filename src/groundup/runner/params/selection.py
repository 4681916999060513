"""The part of the params that a stage declares in dvc.yaml: it sees these and no others."""

from typing import Any

from groundup.runner.params.load import Params
from groundup.runner.pipeline import PipelineError


def select(params: Params, declared: tuple[str, ...]) -> dict[str, Any]:
    """Dotted key -> plain value, for the fingerprint and the tracker."""
    return {key: _plain(_at(params, key)) for key in declared}


def _at(params: Params, key: str) -> Any:
    value: Any = params
    for part in key.split("."):
        if part not in type(value).model_fields:
            raise PipelineError(f"dvc.yaml declares the param {key}, which params.yaml does not have")
        value = getattr(value, part)
    return value


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


class DeclaredParams:
    """`declared["sft"]`, `declared["model.context_length"]`: a PipelineError names what dvc.yaml lacks.

    A declared section includes its keys.
    """

    def __init__(self, params: Params, declared: tuple[str, ...]) -> None:
        self._params = params
        self._declared = declared

    def __getitem__(self, key: str) -> Any:
        if not any(f"{key}.".startswith(f"{declared}.") for declared in self._declared):
            raise PipelineError(f"the stage reads the param {key}: declare it under params in dvc.yaml")
        return _at(self._params, key)
