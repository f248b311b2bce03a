"""Which config of this package a run belongs to, what it changed there, and what was published for it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from glob import escape
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.fileio import load

# Where the data lie and how the processes are joined makes no other experiment.
_PLACES = ('data_root', 'ann_file')


def read_config(path: str | Path) -> Config:
    """Execute a config, without importing the modules that it asks for, as it stands in any environment."""
    return Config.fromfile(path, use_environment_variables=False, import_custom_modules=False)


def read_dumped_config(path: Path) -> Config:
    """Read the copy of a config that MMEngine leaves in a work folder, without executing it.

    Args:
        path: A file of assignments of literals and of ``dict(...)``. Names in the place of values, which
            stand for classes, are read as texts.

    Raises:
        ValueError: It is anything else.
        SyntaxError: It is no Python.
        OSError: It cannot be read.
    """
    statements = ast.parse(path.read_text()).body
    if not all(isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) for line in statements):
        raise ValueError(f'{path} is not as MMEngine writes it: it holds more than assignments')
    return Config({line.targets[0].id: _literal(line.value) for line in statements})


def _literal(node: ast.expr) -> Any:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=keywords):
            return {keyword.arg: _literal(keyword.value) for keyword in keywords}
        case ast.Call(func=ast.Name(id='dict'), args=[argument], keywords=[]):
            return _literal(argument)
        case ast.Dict(keys=keys, values=values):
            return {ast.literal_eval(key): _literal(value) for key, value in zip(keys, values, strict=True)}
        case ast.List(elts=elements):
            return [_literal(element) for element in elements]
        case ast.Tuple(elts=elements):
            return tuple(_literal(element) for element in elements)
        case ast.Name(id='inf' | 'nan' as number):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id='inf')):
            return -float('inf')
        case ast.Name() | ast.Attribute():
            return ast.unparse(node)
    return ast.literal_eval(node)


def find_config(name: str, used: Config, configs: Path) -> Path | None:
    """Find the config that a run was started with.

    Args:
        name: Its file name without ``.py``.
        used: The settings of the run. Where several folders hold a config of this name (``released``
            tests the models of ``cbn``), the one with the fewest other settings is taken.
        configs: The folder of configs, one folder a method.

    Returns:
        The config; None if there is none of this name.
    """
    found = sorted(configs.glob(f'*/{escape(name)}.py'))
    return min(found, key=lambda path: len(changed_settings(path, used)), default=None)


def changed_settings(path: Path, used: Config) -> list[str]:
    """List what a run did otherwise than its config says.

    Variables of the config (everything that is no dictionary), the places of the data and the wrapper of
    the model are left out.

    Args:
        path: The config.
        used: The settings of the run.

    Returns:
        Texts such as ``custom_hooks.0.window_size=8``, as one writes them behind ``--cfg-options``.
    """
    before, after = _read_settings(path), dict(_settings(used.to_dict()))
    changed = [f'{key}={value}' for key, value in after.items() if key not in before or before[key] != value]
    return changed + [f'no {key}' for key in before if key not in after]


@cache
def _read_settings(path: Path) -> dict[str, Any]:
    return dict(_settings(read_config(path).to_dict()))


def _settings(value: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, (list, tuple)) and any(isinstance(item, Mapping) for item in value):
        items = enumerate(value)
    else:
        *parents, last = key.split('.')
        if parents and last not in _PLACES and parents[0] != 'model_wrapper_cfg':
            yield key, value
        return
    for name, item in items:
        yield from _settings(item, f'{key}.{name}' if key else str(name))


def published_results(config: Path) -> dict[str, dict[str, float]]:
    """Look up what was published for a config: ``Metadata`` of its metafile.

    Args:
        config: A config; the metafile of its folder lists it as a model of the same name.

    Returns:
        Metrics in percent by their columns, e.g. ``box AP50``, by who prints them: ``paper``, or
        ``repository`` (that of the paper's authors). Who prints none is not there.
    """
    metafile = config.with_name('metafile.yml')
    models = load(metafile)['Models'] if metafile.is_file() else []
    metadata = next((model.get('Metadata', {}) for model in models if model['Name'] == config.stem), {})
    found = {
        source: metadata.get(f'{source.capitalize()} Results', {}).get('Metrics', {})
        for source in ('paper', 'repository')
    }
    return {source: dict(metrics) for source, metrics in found.items() if metrics}
