"""params.yaml as a typed, validated tree."""

from groundup.frame.params.load import Params, ParamsError, load_params

__all__ = ["Params", "ParamsError", "load_params"]
