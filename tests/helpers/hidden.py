"""A Python in which some of what is installed cannot be imported."""

import re
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# As if they were not installed: find_spec answers None, import raises ModuleNotFoundError.
_HIDE = """
import sys
from importlib.machinery import PathFinder

class Hide(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition('.')[0] in {hidden!r} else super().find_spec(name, path, target)

    @classmethod
    def find_distributions(cls, context):
        return iter(()) if context.name in {hidden!r} else super().find_distributions(context)

sys.meta_path[:] = [Hide if finder is PathFinder else finder for finder in sys.meta_path]
"""


def hiding(modules: Iterable[str]) -> str:
    """Return lines of Python after which ``modules`` cannot be imported."""
    return _HIDE.format(hidden=tuple(modules))


def not_needed_by(*names: str) -> tuple[str, ...]:
    """Return the modules of all distributions but our own, those of these names, and what they require."""
    needed, front = {'mmdet-cbn'}, {*names}
    while front:
        name = front.pop()
        needed.add(name)
        front |= _requirements(name) - needed
    return tuple(
        module
        for module, distributions in packages_distributions().items()
        if needed.isdisjoint(map(_normalized, distributions)) and not (ROOT / module).exists()
    )


def _requirements(name: str) -> set[str]:
    """Return what a distribution requires beside its extras, nothing for one that is not installed."""
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return set()
    return {_normalized(re.match(r'[\w.-]+', line).group()) for line in lines if 'extra ==' not in line}


def _normalized(name: str) -> str:
    return re.sub(r'[-_.]+', '-', name).lower()
