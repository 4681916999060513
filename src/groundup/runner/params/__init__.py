"""params.yaml as a typed, validated tree."""

from groundup.runner.params.load import Params, ParamsError, load_params

__all__ = ["Params", "ParamsError", "load_params"]
