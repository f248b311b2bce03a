"""CBN against a model that keeps plain lists, over any sequence of calls."""

import copy
import io
import pickle

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor, nn

from mmdet_cbn.layers import CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d, pair_conv_norm

CLOSE = {'rtol': 1e-8, 'atol': 1e-8}
EACH = (slice(None), None, None)
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


class ListModel:
    """Equations 5 to 12 of arXiv 2002.05712 with a list as the window; it reads the layer's parameters.

    Attributes:
        past: Latest first: mean, mean of squares, their derivatives and the weights of each iteration.
        past_size: The window size that they were collected for: it is emptied where another one is used.
    """

    def __init__(self, norm: nn.Module, conv: nn.Conv2d, compensates: bool, window_gradient: bool) -> None:
        self.compensates, self.window_gradient = compensates, window_gradient
        self.window_size, self.burn_in = norm.window_size, norm.burn_in
        self.gamma, self.beta, self.momentum, self.eps = norm.weight, norm.bias, norm.momentum, norm.eps
        self.past, self.past_size, self.iterations, self.batches = [], norm.window_size, 0, 0
        self.running_mean = torch.zeros(conv.out_channels, dtype=torch.float64)
        self.running_var = torch.ones(conv.out_channels, dtype=torch.float64)

    def affine(self, y: Tensor, mean: Tensor, var: Tensor) -> Tensor:
        return self.gamma[EACH] * (y - mean[EACH]) / (var[EACH] + self.eps).sqrt() + self.beta[EACH]

    def evaluate(self, y: Tensor) -> Tensor:
        return self.affine(y, self.running_mean, self.running_var)

    def train(self, x: Tensor, conv: nn.Conv2d, remember: bool) -> Tensor:
        with torch.enable_grad():
            # Not through the hooks of the convolution under test.
            y = conv._conv_forward(x, conv.weight, conv.bias)
            theta = list(conv.parameters())
            mu, nu = y.mean((0, 2, 3)), y.square().mean((0, 2, 3))
            p = torch.autograd.grad(mu.sum(), theta, retain_graph=True)
            q = torch.autograd.grad(nu.sum(), theta, retain_graph=True)
            pooling = self.window_size > 1 and self.iterations >= self.burn_in
            if pooling and self.window_size != self.past_size:
                self.past, self.past_size = [], self.window_size
            mus, nus = [mu], [nu]
            for past_mu, past_nu, *rows in self.past if pooling else []:
                steps = [self.step(*row) for row in zip(theta, *rows, strict=True) if self.compensates]
                mus.append(past_mu + sum(step[0] for step in steps))
                nus.append(torch.maximum(past_nu + sum(step[1] for step in steps), mus[-1] ** 2))
            mu_bar = sum(mus) / len(mus)
            out = self.affine(y, mu_bar, sum(nus) / len(nus) - mu_bar**2)
        mu, nu = mu.detach(), nu.detach()
        finite = bool(torch.cat((mu, nu)).isfinite().all())
        if finite:
            self.batches += 1
            momentum = 1 / self.batches if self.momentum is None else self.momentum
            count = y.numel() / y.size(1)
            var = (nu - mu**2) * count / (count - 1)
            self.running_mean = (1 - momentum) * self.running_mean + momentum * mu
            self.running_var = (1 - momentum) * self.running_var + momentum * var
        if remember and finite and pooling:
            then = [t.detach().clone() for t in theta]
            self.past = [(mu, nu, p, q, then), *self.past][: self.window_size - 1]
        self.iterations += remember
        return out

    def step(self, now: Tensor, p: Tensor, q: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a change of one parameter adds to mean and mean of squares (eq. 7 and 8)."""
        change = (now if self.window_gradient else now.detach()) - then
        return tuple((rate * change).reshape(len(change), -1).sum(1) for rate in (p, q))


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
        self.model = ListModel(norm, conv, kind != 'NaiveCBN', kind == 'window_gradient')
        self.checkpoint = self.saved()

    def saved(self) -> tuple[dict, dict]:
        names = ('running_mean', 'running_var', 'iterations', 'batches')
        return copy.deepcopy(self.block.state_dict()), {name: getattr(self.model, name) for name in names}

    def input(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (2, self.block[0].in_channels, 7 + seed % 3, 7 + seed % 4)
        return torch.randn(shape, generator=generator, dtype=torch.float64) + seed % 5 - 2

    def compare(self, x: Tensor) -> None:
        x, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        out, expected = self.block(x), self.model.train(other, self.block[0], remember=True)
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
        torch.testing.assert_close(out, self.model.train(x, self.block[0], remember=False), **CLOSE)

    @rule(seed=seeds, grad=st.booleans())
    def evaluate(self, seed: int, grad: bool) -> None:
        self.block.eval()
        with torch.set_grad_enabled(grad):
            out = self.block(self.input(seed))
        self.block.train()
        y = self.block[0]._conv_forward(self.input(seed), self.block[0].weight, self.block[0].bias)
        torch.testing.assert_close(out, self.model.evaluate(y), **CLOSE)

    @rule(seed=seeds, grad=st.booleans())
    def empty(self, seed: int, grad: bool) -> None:
        x = self.input(seed)[:0]
        with torch.set_grad_enabled(grad):
            # Padding modes other than zeros refuse an empty batch in torch itself.
            y = self.block[0](x) if self.block[0].padding_mode == 'zeros' else x.new_empty(0, *self.shape(x))
            assert self.block[1](y).shape == y.shape

    def shape(self, x: Tensor) -> tuple[int, ...]:
        one = x.new_zeros(1, *x.shape[1:])
        return self.block[0]._conv_forward(one, self.block[0].weight, self.block[0].bias).shape[1:]

    @rule(seed=seeds, value=st.sampled_from([float('nan'), float('inf'), 1e200]), grad=st.booleans())
    def not_finite(self, seed: int, value: float, grad: bool) -> None:
        """Activations whose mean of squares is infinite or undefined, 1e200 by overflow."""
        x = self.input(seed)
        x[0, seed % x.size(1)] = value
        with torch.set_grad_enabled(grad):
            out = self.block(x)
        expected = self.model.train(x, self.block[0], remember=grad)
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

    @rule(how=st.sampled_from(['load', 'load', 'restart', 2, 3, 4, 5]))
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
