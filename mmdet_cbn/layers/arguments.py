"""Checks of the arguments that users write into configs."""

import math
from typing import TypeGuard


def check_integer(name: str, value: object, minimum: int) -> None:
    """Raise ValueError unless ``value`` is an integer of at least ``minimum``."""
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f'{name} must be an integer >= {minimum}, got {name}={value!r}')


def check_number(name: str, value: object, minimum: float, maximum: float = math.inf) -> None:
    """Raise ValueError unless ``value`` is a finite number in [minimum, maximum]."""
    if not _is_number(value) or not math.isfinite(value) or not minimum <= value <= maximum:
        bounds = f'>= {minimum}' if maximum == math.inf else f'in [{minimum}, {maximum}]'
        raise ValueError(f'{name} must be a finite number {bounds}, got {name}={value!r}')


def check_positive(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a finite number above 0."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f'{name} must be a finite number above 0, got {name}={value!r}')


def check_fraction(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a number in (0, 1]."""
    if not _is_number(value) or not 0 < value <= 1:
        raise ValueError(f'{name} must be a number in (0, 1], got {name}={value!r}')


def check_flag(name: str, value: object) -> None:
    """Raise ValueError unless ``value`` is a bool."""
    if not isinstance(value, bool):
        raise ValueError(f'{name} must be True or False, got {name}={value!r}')


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless ``value`` is one of ``choices``."""
    if value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(map(repr, choices))}, got {name}={value!r}')


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
