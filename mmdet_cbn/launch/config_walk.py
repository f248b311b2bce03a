"""Looking through a config."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any


def walk(node: Any, place: str = '') -> Iterator[tuple[str, Any]]:
    """Yield a part of a config and all that is in it, each before its own parts.

    Args:
        node: Mappings, lists and tuples in each other, or a single value.
        place: What to call ``node``.

    Yields:
        Place, e.g. 'model.neck.norm_cfg' or 'model.heads.0', and value.
    """
    yield place, node
    if isinstance(node, Mapping):
        parts: Iterable[tuple[Any, Any]] = node.items()
    elif isinstance(node, list | tuple):
        parts = enumerate(node)
    else:
        return
    for name, value in parts:
        yield from walk(value, f'{place}.{name}')


def mappings(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings among what :func:`walk` yields."""
    return (value for _, value in walk(node) if isinstance(value, Mapping))
