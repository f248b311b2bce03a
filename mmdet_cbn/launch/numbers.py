"""What counts as a number in files that others wrote."""

import math
from typing import TypeGuard

_LARGEST = 2**53  # float64 holds whole numbers exactly up to here


def is_number(value: object) -> TypeGuard[int | float]:
    """Tell whether a value is a number, finite and small enough to be calculated with."""
    if type(value) is int:
        return abs(value) <= _LARGEST
    return type(value) is float and math.isfinite(value)


def is_whole(value: object) -> TypeGuard[int]:
    """Tell whether a value is such a number without a fraction; 4.0 is none."""
    return type(value) is int and is_number(value)
