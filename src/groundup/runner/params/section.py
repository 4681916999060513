"""Base class and value types of every params section."""

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A section of params.yaml: unknown keys are errors, values are strict, nothing has a default.

    A default in Python would be a parameter that DVC cannot see.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # of a folder in models/
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
AtLeastOne = Annotated[float, Field(ge=1, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]
