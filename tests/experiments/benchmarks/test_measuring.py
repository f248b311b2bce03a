"""Time and memory, where they are known."""

import gc
import time
from itertools import groupby

import pytest
import torch

from experiments.benchmarks.measuring import interleave, peak_memory, ratio

CPU = torch.device('cpu')


def test_peak_counts_what_lives_at_the_same_time():
    def function():
        for _ in range(3):
            torch.zeros(1000, 1000).add(1)

    assert peak_memory(function, CPU) == pytest.approx(2 * 4_000_000, abs=100)  # scalars count as well


def test_peak_sees_inside_of_operators():
    x = torch.zeros(1000, 1000)
    # The product of a transposed matrix of doubles needs no copy, a type conversion does.
    assert peak_memory(lambda: x.to(torch.float64).sum(), CPU) >= 8_000_000


def test_garbage_of_earlier_calls_does_not_count():
    def leave_garbage():
        cycle = [torch.zeros(1000, 1000)]
        cycle.append(cycle)

    def function():
        gc.collect()  # as it may come at any moment
        torch.zeros(500, 1000)

    peak_memory(leave_garbage, CPU)
    assert peak_memory(function, CPU) == pytest.approx(2_000_000, abs=100)


def test_every_function_is_timed_in_every_round():
    calls = []

    def function(name, seconds):
        calls.append(name)
        time.sleep(seconds)

    functions = {
        'slow': lambda: function('slow', 0.3),
        'fast': lambda: function('fast', 0.1),
    }
    seconds = interleave(functions, 2, 'test')
    assert {name: len(times) for name, times in seconds.items()} == {'slow': 2, 'fast': 2}
    assert [name for name, _ in groupby(calls)] == ['slow', 'fast'] * 3  # once to see how long they take
    assert min(seconds['slow']) >= 0.3


def test_ratio_is_the_median_of_the_ratios():
    seconds = {'a': [2.0, 30.0, 4.0], 'b': [1.0, 10.0, 4.0]}
    assert ratio(seconds, 'a', 'b') == 2
