"""The benchmark of the layers in float32, bfloat16 and float16, both memory formats, eager and captured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from ..benchmarks.layers import CASES, Case, Setting, benchmark_case
from ..benchmarks.norms import LAYER_NORMS
from .parts import Keep, Options, one_line

QUICK_CASES = (Case((2, 32, 6, 5), 3),)
QUICK_NORMS = ('BN', 'GN', 'BRN', 'CBN', 'MABN')
ROUNDS, SECONDS = 5, 0.02  # of each norm in each case: what the time limit leaves
# The setting that matters most for detectors comes first, should time run out.
FORMATS = (
    (torch.bfloat16, torch.channels_last),
    (torch.float32, torch.contiguous_format),
    (torch.float32, torch.channels_last),
    (torch.bfloat16, torch.contiguous_format),
    (torch.float16, torch.channels_last),
    (torch.float16, torch.contiguous_format),
)


def settings(device: str) -> dict[str, Setting]:
    """Return what is measured, by name."""
    graphs = (False, True) if device == 'cuda' else (False,)
    made = [Setting(torch.device(device), *form, graph) for graph in graphs for form in FORMATS]
    return {_name(setting): setting for setting in made}


def run(options: Options, keep: Keep) -> str | None:
    """Measure; ``keep`` gets the names of settings and cases, the rows, and why others are missing."""
    cases = QUICK_CASES if options.quick else CASES[options.device]
    rounds, seconds = (1, 0.001) if options.quick else (ROUNDS, SECONDS)
    norms = {name: LAYER_NORMS[name] for name in QUICK_NORMS} if options.quick else LAYER_NORMS
    chosen = settings(options.device)
    data: dict[str, Any] = {
        'settings': list(chosen),
        'cases': list(map(str, cases)),
        'rounds': rounds,
        'rows': [],
        'missing': [],
    }
    for name, setting in chosen.items():
        for case in cases:
            print(name, flush=True)
            try:
                rows = benchmark_case(case, setting, rounds, seconds, norms)
                data['rows'] += [{'setting': name, **asdict(row)} for row in rows]
            except Exception as error:  # a type that the device lacks, its memory: the others go on
                data['missing'].append({'setting': name, 'case': str(case), 'reason': one_line(error)})
            keep(data)
    missing = len(data['missing'])
    return f'{missing} of {len(chosen) * len(cases)} are missing' if missing else None


def _name(setting: Setting) -> str:
    parts = [str(setting.dtype).removeprefix('torch.')]
    if setting.memory_format == torch.channels_last:
        parts.append('channels_last')
    return ', '.join([*parts, 'graph'] if setting.graph else parts)
