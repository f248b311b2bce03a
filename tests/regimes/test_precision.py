"""Training in half precision, and in another memory format.

Single layers in them: ``tests/layers/test_special_inputs.py``.
"""

import pytest
import torch
from torch import Tensor, nn

from mmdet_cbn.layers.window import Window
from tests.helpers.small_detector import (
    METHODS,
    STEPS,
    SmallDetector,
    assert_finite,
    detection_loss,
    images,
    loss_of_levels,
    norms_of,
    train,
)
from tests.helpers.snapshot import assert_nearly_same, snapshot

pytestmark = pytest.mark.slow

every_method = pytest.mark.parametrize('method', METHODS)


class Watch:
    """Notes what each norm gets and returns at its last call."""

    def __init__(self, model: nn.Module) -> None:
        self.calls: dict[nn.Module, tuple[Tensor, Tensor]] = {}
        for norm in norms_of(model).values():
            norm.register_forward_hook(self._note)

    def _note(self, norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.calls[norm] = (inputs[0].detach(), output.detach())

    def assert_half_precision_with_exact_memory(self, model: nn.Module, dtype: torch.dtype) -> None:
        """Activations are halves; what is remembered of them is float32, newest entries to its digits."""
        for norm, (y, output) in self.calls.items():
            assert y.dtype == output.dtype == dtype
            window = getattr(norm, 'window', None)
            if isinstance(window, Window):
                row = (int(window.position) - 1) % window.rows
                values = y.double().transpose(0, 1).flatten(1)
                for measured, exact in (
                    (window.mean, values.mean(1)),
                    (window.var, values.var(1, unbiased=False)),
                ):
                    torch.testing.assert_close(measured[:, row].double(), exact, rtol=1e-4, atol=1e-5)
        for name, value in snapshot(model).items():
            assert value.dtype in (torch.float32, torch.int64), name


def assert_follows(losses: list[Tensor], plain: list[Tensor]) -> None:
    """Rounding to 8 or 11 bits moves a loss by a few per cent within 20 steps."""
    torch.testing.assert_close(torch.stack(losses), torch.stack(plain), rtol=0.1, atol=0.0)


@every_method
def test_bfloat16_autocast(method):
    def loss(model: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast('cpu', torch.bfloat16):
            levels = model(x)
        return loss_of_levels([level.float() for level in levels], x)

    model = SmallDetector(method)
    watch = Watch(model)
    losses = train(model, loss)
    watch.assert_half_precision_with_exact_memory(model, torch.bfloat16)
    assert_follows(losses, train(SmallDetector(method)))


@pytest.mark.float16
@every_method
def test_float16_autocast_with_loss_scaling(method):
    """The scale starts far too large, so that gradients overflow and their step is left out.

    That is over before MABN averages: its averages are of scaled gradients, and feel it when the scale jumps.
    """
    half, plain = SmallDetector(method), SmallDetector(method)
    watch = Watch(half)
    optimizers = [torch.optim.SGD(model.parameters(), 0.02, momentum=0.9) for model in (half, plain)]
    scaler = torch.amp.GradScaler('cpu', init_scale=2.0**26, backoff_factor=2.0**-12)
    losses, plain_losses, left_out = [], [], 0
    for step in range(STEPS):
        x = images(step)
        for optimizer in optimizers:
            optimizer.zero_grad()
        with torch.autocast('cpu', torch.float16):
            losses.append(loss_of_levels([level.float() for level in half(x)], x))
        plain_losses.append(detection_loss(plain, x))
        scaler.scale(losses[-1]).backward()
        plain_losses[-1].backward()
        before = scaler.get_scale()
        scaler.step(optimizers[0])
        scaler.update()
        if scaler.get_scale() < before:
            left_out += 1
        else:
            optimizers[1].step()
    assert left_out
    watch.assert_half_precision_with_exact_memory(half, torch.float16)
    half.zero_grad()  # the last ones are scaled
    assert_finite(half, losses)
    assert_follows(losses, plain_losses)


@every_method
def test_channels_last_equals_contiguous(method):
    def in_format(memory_format: torch.memory_format) -> dict[str, Tensor]:
        model = SmallDetector(method).double().to(memory_format=memory_format)
        watch = Watch(model)
        batches = (images(step).double().to(memory_format=memory_format) for step in range(STEPS))
        losses = train(model, batches=batches)
        for _, output in watch.calls.values():
            assert output.is_contiguous(memory_format=memory_format)
        return {'losses': torch.stack(losses), **snapshot(model)}

    # In float64, where rounding has no room to grow within 20 steps.
    assert_nearly_same(in_format(torch.channels_last), in_format(torch.contiguous_format), 1e-9)
