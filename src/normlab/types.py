"""Types of arguments with their ranges, checked where a config meets a constructor."""

from collections.abc import Sequence
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

MOST = 2**31 - 1  # what counts things or is a tensor's size
LARGEST = 1e38  # a weight in fp32 holds it, and three times as much


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("number", "a number, not true or false")
    return value


NUMBER = BeforeValidator(_no_boolean)  # pydantic takes true for 1

Whole = Annotated[int, NUMBER, Ge(-MOST), Le(MOST)]
Count = Annotated[int, NUMBER, Ge(1), Le(MOST)]
Natural = Annotated[int, NUMBER, Ge(0), Le(MOST)]  # a count that may be 0
Few = Annotated[int, NUMBER, Ge(1), Le(1000)]  # layers, beams, batches of a step: each takes time
Number = Annotated[float, NUMBER, Ge(-LARGEST), Le(LARGEST)]
Positive = Annotated[float, NUMBER, Gt(0), Le(LARGEST)]
NonNegative = Annotated[float, NUMBER, Ge(0), Le(LARGEST)]
Epsilon = Annotated[float, NUMBER, Ge(1 / LARGEST), Le(LARGEST)]  # in fp32 not 0: 0 / 0 is NaN
Penalty = Annotated[float, NUMBER, Ge(0), Le(10)]  # an exponent
Fraction = Annotated[float, NUMBER, Ge(0), Lt(1)]
Seed = Annotated[int, NUMBER, Ge(0), Lt(2**63)]


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


NameList = Annotated[Sequence[str], BeforeValidator(_as_list)]  # one name is a list of one
