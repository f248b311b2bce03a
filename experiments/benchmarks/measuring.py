"""Time and memory of functions that are to be compared."""

import gc
import sys
from collections.abc import Callable, Mapping
from itertools import accumulate
from statistics import median
from time import perf_counter
from timeit import Timer

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmdet_cbn.layers import CrossIterationNorm

MIN_SECONDS = 0.2


def interleave(
    functions: Mapping[str, Callable[[], object]], rounds: int, title: str, seconds: float = MIN_SECONDS
) -> dict[str, list[float]]:
    """Time several functions in turn, so that what slows the machine down meets all of them.

    Args:
        functions: What to time, by name. Each is called several times beforehand by the caller, if it must.
        rounds: How often each is timed; one time is the mean of as many calls as fill ``seconds``.
        title: What is timed, to be told on stderr.
        seconds: How long each name takes a round, about.

    Returns:
        Seconds a call for each name and round.
    """
    # Not torch's own Timer, which warms up twice for each of our rounds: whole detectors take seconds. Nor
    # its clock, which imports setuptools.
    timers = {name: Timer(function, timer=_clock) for name, function in functions.items()}
    one_call = {name: timer.timeit(1) for name, timer in timers.items()}
    calls = {name: max(1, round(seconds / time)) for name, time in one_call.items()}
    expected = rounds * sum(calls[name] * time for name, time in one_call.items())
    print(f'{title}: {rounds} rounds, about {expected:.0f} s', file=sys.stderr)
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.timeit(calls[name]) / calls[name])
    return times


def _clock() -> float:
    """Return the time in seconds, once the GPU is done with what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return perf_counter()


def ratio(seconds: Mapping[str, list[float]], name: str, reference: str) -> float:
    """Return the median over the rounds of the ratio of two times."""
    return median(a / b for a, b in zip(seconds[name], seconds[reference], strict=True))


def peak_memory(function: Callable[[], object], device: torch.device) -> int:
    """Return the bytes that torch's allocator holds at most during a call, above what it held before.

    Scratch memory inside libraries (oneDNN) is not seen on the CPU.
    """
    gc.collect()  # or garbage of earlier calls is freed in this one, and counts as if it were this one's
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        function()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        function()
    # The public events leave out allocations inside of operators, hence the profiler's raw ones.
    events = record.profiler.kineto_results.events()
    changes = [event.nbytes() for event in events if event.name() == '[memory]']
    return max(accumulate(changes, initial=0))


def settle(module: nn.Module) -> None:
    """Take layers past their first iterations, whose schedules ask for operations of their own."""
    state = module.state_dict()
    module.load_state_dict({k: v + 10_000 if k.endswith('iterations') else v for k, v in state.items()})


def kept_bytes(module: nn.Module) -> int:
    """Return the bytes of all that a module keeps between iterations: parameters, buffers and windows."""
    windows = [part.window for part in module.modules() if isinstance(part, CrossIterationNorm)]
    tensors = [*module.parameters(), *module.buffers()]
    tensors += [value for window in windows if window is not None for value in vars(window).values()]
    return sum(value.numel() * value.element_size() for value in tensors if isinstance(value, Tensor))
