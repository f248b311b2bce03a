"""Gradient accumulation by MMEngine's OptimWrapper: each micro-batch is an exact entry of what is remembered.

That the window then is one large batch: ``test_unchanged_weights_make_the_window_one_large_batch`` in
``tests/layers/test_special_inputs.py``.
"""

from collections.abc import Iterator

import pytest
import torch
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from tests.helpers.small_detector import (
    METHODS,
    STEPS,
    SmallDetector,
    assert_finite,
    detection_loss,
    images,
    norms_of,
)
from tests.helpers.snapshot import newest_last

pytestmark = pytest.mark.slow

MICRO_BATCHES = 3  # with a window of 4, all of them are in it when the step is taken


class Measured:
    """What the norms were given, in float64: mean, variance and mean of squares of each micro-batch."""

    def __init__(self, model: nn.Module) -> None:
        self.of: dict[nn.Module, list[tuple[Tensor, Tensor, Tensor]]] = {}
        for norm in norms_of(model).values():
            norm.register_forward_hook(self._note)

    def _note(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        y = inputs[0].detach().transpose(0, 1).flatten(1)
        mean = sum(y.T) / y.size(1)
        squares = sum(y.square().T) / y.size(1)
        self.of.setdefault(norm, []).append((mean, squares - mean.square(), squares))


# An exponential window keeps no entries: ``test_weights_at_rest_need_no_correction`` has what it averages.
@pytest.mark.parametrize(
    'method', [method for method in METHODS if method not in ('CBN, exponential', 'AvgBN')]
)
def test_micro_batches_are_remembered_exactly(method):
    # In float64, and with one call of each layer a micro-batch: a shared head has five.
    model = SmallDetector(method, shared_head=False).double()
    measured = Measured(model)
    wrapper = OptimWrapper(
        torch.optim.SGD(model.parameters(), 0.02, momentum=0.9), accumulative_counts=MICRO_BATCHES
    )
    wrapper.initialize_count_status(model, 0, STEPS * MICRO_BATCHES)
    losses = []
    for call in range(1, STEPS * MICRO_BATCHES + 1):
        with wrapper.optim_context(model):
            losses.append(detection_loss(model, images(call).double()))
        if call % MICRO_BATCHES == 0:
            assert_remembers(measured)
            assert max(corrections(model), default=0) < 1e-12
        wrapper.update_params(losses[-1])
        if call % MICRO_BATCHES == 0 and call > 2 * MICRO_BATCHES:
            assert min(corrections(model), default=1) > 1e-6  # the weights have moved now
    assert len(list(corrections(model))) == (len(norms_of(model)) if method.startswith('CBN') else 0)
    assert_finite(model, losses)


def assert_remembers(measured: Measured) -> None:
    """Compare what the layers hold with what they were given, to rounding."""
    for norm, batches in measured.of.items():
        assert norm.iterations == len(batches)
        if hasattr(norm, 'window'):
            number = min(len(batches) - norm.burn_in, MICRO_BATCHES)
            mean, var = (column[:, newest_last(norm.window)].T for column in norm.window.values[:2])
            pairs = [(mean, 0, number), (var, 1, number)]
        elif hasattr(norm, 'chi2_buffer'):
            latest = [t % norm.buffer_size for t in range(len(batches) - MICRO_BATCHES, len(batches))]
            rows = [(row + 1) % norm.buffer_size for row in latest]
            pairs = [(norm.chi2_buffer[rows], 2, MICRO_BATCHES)]
        else:
            running = torch.zeros(norm.num_features, dtype=torch.float64)
            for mean, *_ in batches:
                running = 0.9 * running + 0.1 * mean
            torch.testing.assert_close(norm.running_mean, running, rtol=1e-9, atol=1e-12)
            continue
        for value, position, number in pairs:
            exact = torch.stack([batch[position] for batch in batches[-number:]])
            torch.testing.assert_close(value, exact, rtol=1e-9, atol=1e-12)


def corrections(model: nn.Module) -> Iterator[float]:
    """Yield the size of each CBN layer's correction, in standard deviations."""
    for name, norm in norms_of(model).items():
        if hasattr(norm, 'diagnose'):
            conv = model.get_submodule(f'{name.rpartition(".")[0]}.0')
            yield float(norm.diagnose(conv)['compensation'])
