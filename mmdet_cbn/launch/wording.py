"""Values of others in messages of one line."""

import reprlib
from collections.abc import Sequence

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60


def shorten(value: object) -> str:
    """Write a value as Python does, however long or deep it is, in a line."""
    return _repr.repr(value)


def few(names: Sequence[object], shown: int = 3) -> str:
    """Name the first of some."""
    return ', '.join(map(label, names[:shown])) + (', ...' if len(names) > shown else '')


def label(value: object) -> str:
    """Write a name or a number without quotation marks, however long it is, in a line."""
    text = shorten(value)
    return text[1:-1] if isinstance(value, str) else text
