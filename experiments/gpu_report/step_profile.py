"""What one training step of convolution + norm + ReLU launches, and the time between."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile, schedule

from ..benchmarks.layers import CASES, FILL, Case, Setting, captured, make_block, training_step
from ..benchmarks.norms import LAYER_NORMS
from .parts import Keep, Options, one_line

NORMS = ('BN', 'CBN', 'CBN, exponential', 'CBN, fraction 1/8', 'MABN', 'BRN')
LAUNCHES = ('cudaLaunch', 'cuLaunch', 'cudaGraphLaunch', 'cudaMemcpy', 'cudaMemset')
WAITS = ('cudaStreamSynchronize', 'cudaEventSynchronize', 'cudaMemcpy')
LONGEST = 12


class Interval(NamedTuple):
    """A kernel, or an operator of the CPU: its name, and when it ran, in microseconds."""

    name: str
    start: float
    end: float


def run(options: Options, keep: Keep) -> str | None:
    """Profile; ``keep`` gets one entry a norm, eager and as a CUDA graph, each from :func:`summarize`."""
    case = Case((2, 32, 6, 5), 3) if options.quick else CASES[options.device][1]
    setting = Setting(torch.device(options.device))
    if options.device == 'cuda':
        setting = replace(setting, dtype=torch.bfloat16, memory_format=torch.channels_last)
    data: dict[str, Any] = {'case': str(case), 'dtype': str(setting.dtype), 'steps': {}, 'missing': {}}
    for name in NORMS:
        block = make_block(LAYER_NORMS[name], case, setting)
        x = torch.randn(case.shape, device=setting.device).to(memory_format=setting.memory_format)
        step = training_step(block, x, setting)
        for _ in range(FILL):
            step()
        try:
            data['steps'][name] = profiled(step, setting.device)
            if options.device == 'cuda':
                data['steps'][f'{name}, graph'] = profiled(captured(step), setting.device)
        except Exception as error:  # the other norms go on
            data['missing'][name] = one_line(error)
        keep(data)
    return f'without {", ".join(data["missing"])}' if data['missing'] else None


def profiled(step: Callable[[], None], device: torch.device) -> dict[str, Any]:
    """Profile one call of a function that is warm."""
    activities, on_gpu = [ProfilerActivity.CPU], device.type == 'cuda'
    if on_gpu:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, schedule=schedule(wait=0, warmup=2, active=1, repeat=1)) as record:
        for _ in range(3):
            step()
            if on_gpu:
                torch.cuda.synchronize(device)
            record.step()
    events = [event for event in record.events() if not event.name.startswith('ProfilerStep')]
    host = [event for event in events if event.device_type == DeviceType.CPU]
    # On a CPU the work is what no operator hands on to another one.
    work = [e for e in events if e.device_type == DeviceType.CUDA] if on_gpu else _innermost(host)
    intervals = [Interval(event.name, event.time_range.start, event.time_range.end) for event in work]
    summary = summarize(intervals)
    if on_gpu:
        summary['launches'] = sum(event.name.startswith(LAUNCHES) for event in host)
        summary['waits'] = sum(event.name in WAITS for event in host)
    return summary


def _innermost(events: Sequence[Any]) -> list[Any]:
    return [event for event in events if event.name.startswith('aten::') and not event.cpu_children]


def summarize(intervals: Sequence[Interval]) -> dict[str, Any]:
    """Summarize the work of a step.

    Returns:
        ``count``; ``busy_us``, during which at least one of them runs; ``span_us``, from the first start to
        the last end; ``gaps_us``, the difference; ``longest_gap_us``; and ``names``, those that take
        longest in rows of name, count, and microseconds.
    """
    gaps, reached = [], None
    for interval in sorted(intervals, key=lambda interval: interval.start):
        if reached is not None and interval.start > reached:
            gaps.append(interval.start - reached)
        reached = interval.end if reached is None else max(reached, interval.end)
    span = reached - min(interval.start for interval in intervals) if intervals else 0.0
    times: dict[str, list[float]] = {}
    for name, start, end in intervals:
        times.setdefault(name, []).append(end - start)
    names = sorted(times, key=lambda name: -sum(times[name]))[:LONGEST]
    return {
        'count': len(intervals),
        'busy_us': span - sum(gaps),
        'span_us': span,
        'gaps_us': sum(gaps),
        'longest_gap_us': max(gaps, default=0.0),
        'names': [[name, len(times[name]), sum(times[name])] for name in names],
    }
