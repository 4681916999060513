"""The presets over this tree's params.yaml; applying one takes a second."""

from functools import cache

from groundup.runner.params import Params
from groundup.runner.params.presets import Rewrite, with_preset
from tests.conftest import ROOT


@cache
def applied(name: str) -> Rewrite:
    return with_preset(ROOT, name, {})


def preset(name: str) -> Params:
    return applied(name).params


def preset_text(name: str) -> str:
    """A whole params.yaml."""
    return applied(name).text
