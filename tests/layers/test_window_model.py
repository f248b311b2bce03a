"""CBN against the literal oracle, over any sequence of calls."""

import copy
import io
import pickle

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor, nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d, pair_conv_norm
from tests.helpers.literal_cbn import LiteralCBN

CLOSE = {'rtol': 1e-8, 'atol': 1e-8}
seeds = st.integers(0, 2**16)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))


@st.composite
def convolutions(draw: st.DrawFn) -> nn.Conv2d:
    """Any 2D convolution of torch: they take inputs of 7 x 7 and more."""
    groups = draw(st.integers(1, 2))
    mode = draw(st.sampled_from(['zeros', 'zeros', 'zeros', 'reflect', 'replicate', 'circular']))
    padding = draw(st.sampled_from(['same', 'same', 'valid', None]))
    options = {
        'kernel_size': draw(kernels),
        'stride': 1 if padding == 'same' else draw(pairs),
        'padding': padding or draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        'dilation': draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        'padding_mode': mode,
        'bias': draw(st.booleans()),
    }
    torch.manual_seed(draw(seeds))
    channels = (groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2)))
    return nn.Conv2d(*channels, groups=groups, dtype=torch.float64, **options)


class AnySequenceOfCalls(RuleBasedStateMachine):
    @initialize(
        conv=convolutions(),
        kind=st.sampled_from(['CBN', 'window_gradient', 'NaiveCBN']),
        window_size=st.integers(1, 5),
        burn_in=st.sampled_from([0, 0, 2]),
        momentum=st.sampled_from([0.1, 0.5, None]),
    )
    def start(
        self, conv: nn.Conv2d, kind: str, window_size: int, burn_in: int, momentum: float | None
    ) -> None:
        options = {
            'window_size': window_size,
            'burn_in': burn_in,
            'momentum': momentum,
            'dtype': torch.float64,
        }
        if kind == 'NaiveCBN':
            norm = NaiveCrossIterationBatchNorm2d(conv.out_channels, **options)
        else:
            gradient = {'window_gradient': kind == 'window_gradient'}
            norm = CrossIterationBatchNorm2d(conv.out_channels, **options, **gradient)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        self.block = nn.Sequential(conv, norm)
        pair_conv_norm(self.block)
        self.model = LiteralCBN(
            conv.out_channels,
            window_size,
            burn_in,
            compensate=kind != 'NaiveCBN',
            window_gradient=kind == 'window_gradient',
            momentum=momentum,
        )
        self.model.gamma, self.model.beta = norm.weight, norm.bias
        self.checkpoint = self.saved()

    def saved(self) -> tuple[dict, dict]:
        names = ('running_mean', 'running_var', 'iterations', 'batches')
        return copy.deepcopy(self.block.state_dict()), {name: getattr(self.model, name) for name in names}

    def input(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (2, self.block[0].in_channels, 7 + seed % 3, 7 + seed % 4)
        return torch.randn(shape, generator=generator, dtype=torch.float64) + seed % 5 - 2

    def convolve(self, x: Tensor) -> Tensor:
        """Not through the hooks of the convolution under test."""
        return self.block[0]._conv_forward(x, self.block[0].weight, self.block[0].bias)

    def expected(self, x: Tensor, remember: bool) -> Tensor:
        with torch.enable_grad():
            return self.model(self.convolve(x), self.block[0], remember)

    def compare(self, x: Tensor) -> None:
        x, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = self.block(x), self.expected(other, remember=True)
        torch.testing.assert_close(out, expected, **CLOSE)
        towards = torch.cos(expected.detach())
        grads = torch.autograd.grad(out, [x, *self.block.parameters()], towards)
        others = torch.autograd.grad(expected, [other, *self.block.parameters()], towards)
        for grad, other_grad in zip(grads, others, strict=True):
            torch.testing.assert_close(grad, other_grad, rtol=1e-7, atol=1e-6)

    @rule(seed=seeds, steps=st.integers(1, 4), lr=st.sampled_from([0.0, 0.01, 0.3]))
    def train(self, seed: int, steps: int, lr: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        for step in range(steps):
            self.compare(self.input(seed + step))
            with torch.no_grad():
                for parameter in self.block[0].parameters():
                    parameter += lr * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)

    @rule(seed=seeds)
    def train_without_grad(self, seed: int) -> None:
        x = self.input(seed)
        with torch.no_grad():
            out = self.block(x)
        assert not out.requires_grad
        torch.testing.assert_close(out, self.expected(x, remember=False), **CLOSE)

    @rule(seed=seeds, grad=st.booleans())
    def evaluate(self, seed: int, grad: bool) -> None:
        self.block.eval()
        with torch.set_grad_enabled(grad):
            out = self.block(self.input(seed))
        self.block.train()
        expected = self.model.evaluate(self.convolve(self.input(seed)))
        torch.testing.assert_close(out, expected, **CLOSE)

    @rule(seed=seeds, grad=st.booleans())
    def empty(self, seed: int, grad: bool) -> None:
        x = self.input(seed)[:0]
        with torch.set_grad_enabled(grad):
            # Padding modes other than zeros refuse an empty batch in torch itself.
            y = self.block[0](x) if self.block[0].padding_mode == 'zeros' else x.new_empty(0, *self.shape(x))
            assert self.block[1](y).shape == y.shape

    def shape(self, x: Tensor) -> tuple[int, ...]:
        return self.convolve(x.new_zeros(1, *x.shape[1:])).shape[1:]

    @rule(seed=seeds, value=st.sampled_from([float('nan'), float('inf'), 1e200]), grad=st.booleans())
    def not_finite(self, seed: int, value: float, grad: bool) -> None:
        """Activations whose mean of squares is infinite or undefined, 1e200 by overflow."""
        x = self.input(seed)
        x[0, seed % x.size(1)] = value
        with torch.set_grad_enabled(grad):
            out = self.block(x)
        expected = self.expected(x, remember=grad)
        unharmed = expected.isfinite()  # groups that the value did not reach
        torch.testing.assert_close(out[unharmed], expected[unharmed], **CLOSE)

    @rule(seed=seeds, how=st.sampled_from([None, 'deepcopy', 'pickle', 'torch.save']))
    def stop_between_convolution_and_norm_and_go_on_with_a_copy(self, seed: int, how: str | None) -> None:
        self.block[0](self.input(seed))
        if how == 'deepcopy':
            self.block = copy.deepcopy(self.block)
        elif how == 'pickle':
            self.block = pickle.loads(pickle.dumps(self.block))
        elif how == 'torch.save':
            buffer = io.BytesIO()
            torch.save(self.block, buffer)
            buffer.seek(0)
            self.block = torch.load(buffer, weights_only=False)
        self.model.gamma, self.model.beta = self.block[1].weight, self.block[1].bias

    @rule()
    def save(self) -> None:
        self.checkpoint = self.saved()

    @rule(how=st.sampled_from(['load', 'load', 'restart', 1, 2, 3, 4, 5]))
    def forget(self, how: str | int) -> None:
        """Load a checkpoint, restart, or give the window another size, which empties it in its next use."""
        if how == 'load':
            state, plain = self.checkpoint
            self.block.load_state_dict(state)
            vars(self.model).update(plain, past=[])
        elif how == 'restart':
            self.block[1].restart()
            vars(self.model).update(iterations=0, past=[])
        else:
            self.block[1].window_size = self.model.window_size = how

    @invariant()
    def same_statistics(self) -> None:
        if not hasattr(self, 'block'):
            return
        norm = self.block[1]
        torch.testing.assert_close(norm.running_mean, self.model.running_mean, **CLOSE)
        torch.testing.assert_close(norm.running_var, self.model.running_var, **CLOSE)
        assert (norm.running_var >= 0).all()
        assert int(norm.iterations) == norm.iteration == self.model.iterations
        assert int(norm.num_batches_tracked) == self.model.batches


TestAnySequenceOfCalls = AnySequenceOfCalls.TestCase
TestAnySequenceOfCalls.settings = settings(max_examples=150, stateful_step_count=15)
