"""Looking up the ``type`` of a config without building it."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from mmengine.registry import Registry

from .errors import LaunchError


def find_type(registry: Registry, kind: Any, place: str, examples: Iterable[str]) -> Any:
    """Find what a ``type`` stands for, as building would.

    Args:
        registry: Where to look, and in its children.
        kind: The value of ``type``; what is no text is returned as it is.
        place: What the message calls the place in the config.
        examples: Names that may have been meant.

    Raises:
        LaunchError: Nothing has this name.
    """
    if not isinstance(kind, str):
        return kind
    with registry.switch_scope_and_registry(None) as here:
        found = here.get(kind)
        names = [*examples, *here.module_dict]
    if found is None:
        folded = {name.lower(): name for name in reversed(names)}
        near = get_close_matches(kind.lower(), folded, 1)
        hint = f'did you mean {folded[near[0]]}' if near else 'is its module missing in custom_imports'
        raise LaunchError(f'{place}: there is no type={kind!r}; {hint}?')
    return found
