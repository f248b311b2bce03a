"""Every layer against its formulas on plain lists, over any sequence of calls.

To search for longer: pytest tests/layers/test_call_sequences.py --hypothesis-profile=search
"""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from hypothesis import event, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.checkpoint import checkpoint

from mmdet_cbn.layers import (
    AveragedBatchNorm2d,
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    PairingError,
    SingleValueError,
    pair_conv_norm,
)
from mmdet_cbn.layers.local_state import load_local_state, local_state
from tests.helpers.literal_averaged import LiteralAvgBN
from tests.helpers.literal_brn import LiteralBRN
from tests.helpers.literal_cbn import LiteralCBN
from tests.helpers.literal_exponential import LiteralExponentialCBN, LiteralGrowingCBN
from tests.helpers.literal_mabn import LiteralMABN

pytestmark = pytest.mark.slow

# By how much the variance in use may be off, relative to the largest term of its sum.
UNIT = {torch.float64: 1e-12, torch.float32: 1e-5}
MODES = {
    'grad': torch.enable_grad,
    'no_grad': torch.no_grad,
    'inference_mode': torch.inference_mode,
}
HALVES = [torch.bfloat16]
if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 3):  # before, not on CPUs
    HALVES.append(torch.float16)
seeds = st.integers(0, 2**16)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
kernels = st.tuples(st.integers(1, 4), st.integers(1, 4))
modes = st.sampled_from(list(MODES))


@st.composite
def convolutions(draw: st.DrawFn) -> Callable[[], nn.Conv2d]:
    """Any 2D convolution of torch, with new weights each time: they take inputs of 7 x 7 and more."""
    groups = draw(st.integers(1, 2))
    mode = draw(st.sampled_from(['zeros', 'zeros', 'zeros', 'reflect', 'replicate', 'circular']))
    padding = draw(st.sampled_from(['same', 'same', 'valid', None]))
    options = {
        'in_channels': groups * draw(st.integers(1, 2)),
        'out_channels': groups * draw(st.integers(1, 2)),
        'groups': groups,
        'kernel_size': draw(kernels),
        'stride': 1 if padding == 'same' else draw(pairs),
        'padding': padding or draw(st.tuples(st.integers(0, 2), st.integers(0, 2))),
        'dilation': draw(st.tuples(st.integers(1, 2), st.integers(1, 2))),
        'padding_mode': mode,
        'bias': draw(st.booleans()),
    }
    kind = draw(st.sampled_from([nn.Conv2d, CenteredConv2d]))
    return lambda: kind(**options, dtype=torch.float64)


@st.composite
def cross_iteration_norms(draw: st.DrawFn, channels: int) -> tuple[Callable[[], nn.Module], LiteralCBN]:
    options = {'window_size': draw(st.integers(1, 5)), 'burn_in': draw(st.sampled_from([0, 0, 2]))}
    momentum = draw(st.sampled_from([0.1, 0.5, None]))
    kinds = {'window': LiteralCBN, 'exponential': LiteralExponentialCBN, 'growing': LiteralGrowingCBN}
    averaging = draw(st.sampled_from(list(kinds)))
    literal = kinds[averaging]
    affine = draw(st.sampled_from([True, True, False]))
    given = {'momentum': momentum, 'averaging': averaging, 'affine': affine}
    if draw(st.booleans()):
        model = literal(channels, *options.values(), compensate=False, momentum=momentum)
        return lambda: NaiveCrossIterationBatchNorm2d(channels, **options, **given), model
    gradient, fraction = draw(st.booleans()), draw(st.sampled_from([1.0, 1.0, 0.5, 0.125]))
    model = literal(channels, *options.values(), True, gradient, momentum, fraction)
    given |= {'window_gradient': gradient, 'derivative_fraction': fraction}
    return lambda: CrossIterationBatchNorm2d(channels, **options, **given), model


@st.composite
def averaged_norms(draw: st.DrawFn, channels: int) -> tuple[Callable[[], nn.Module], LiteralAvgBN]:
    k, burn_in = draw(st.integers(1, 5)), draw(st.sampled_from([0, 0, 2]))
    momentum = draw(st.sampled_from([0.02, 0.5, None]))
    model = LiteralAvgBN(channels, k, burn_in, momentum)
    return lambda: AveragedBatchNorm2d(channels, momentum=momentum, window_size=k, burn_in=burn_in), model


@st.composite
def moving_average_norms(draw: st.DrawFn, channels: int) -> tuple[Callable[[], nn.Module], LiteralMABN]:
    m, warmup, momentum = draw(st.integers(1, 4)), draw(st.sampled_from([0, 3])), draw(st.floats(0.01, 0.5))
    forward = draw(st.sampled_from(['ema', 'ema', 'sma', 'batch']))
    backward = draw(st.sampled_from(['sma', 'sma', 'ema', 'batch']))
    model = LiteralMABN(channels, m, warmup, 1.2, momentum, forward, backward)
    return lambda: MovingAverageBatchNorm2d(
        channels,
        momentum=momentum,
        buffer_size=m,
        warmup_iters=warmup,
        r_max=1.2,
        forward_statistics=forward,
        backward_statistics=backward,
    ), model


@st.composite
def batch_renorms(draw: st.DrawFn, channels: int) -> tuple[Callable[[], nn.Module], LiteralBRN]:
    warmup, momentum = draw(st.sampled_from([0, 4])), draw(st.floats(0.01, 0.5))
    model = LiteralBRN(channels, warmup, r_max=1.3, d_max=0.4, momentum=momentum)
    return lambda: BatchRenorm2d(
        channels, momentum=momentum, warmup_iters=warmup, r_max=1.3, d_max=0.4
    ), model


class AnySequenceOfCalls(RuleBasedStateMachine):
    """Rules are calls; each does the same to the layer and to the model, and compares."""

    @initialize(
        make_conv=convolutions(),
        norms=st.sampled_from(
            [cross_iteration_norms] * 2 + [averaged_norms, moving_average_norms, batch_renorms]
        ),
        data=st.data(),
        seed=seeds,
    )
    def start(
        self, make_conv: Callable[[], nn.Conv2d], norms: Callable, data: st.DataObject, seed: int
    ) -> None:
        torch.manual_seed(seed)
        self.make_conv, self.dtype = make_conv, torch.float64
        conv = make_conv()
        self.make_norm, self.model = data.draw(norms(conv.out_channels))
        self.take(nn.Sequential(conv, self.make_norm().double()))
        if self.norm.affine:
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)
        event(type(self.norm).__name__)
        self.save()

    def take(self, block: nn.Sequential) -> None:
        """Go on with another block, in which nobody asked for a repetition yet."""
        pair_conv_norm(block)
        self.block, self.norm, self.unrepeated = block, block[1], 0
        if self.norm.affine:
            self.model.gamma, self.model.beta = self.norm.weight, self.norm.bias

    @property
    def is_paired(self) -> bool:
        return isinstance(self.norm, CrossIterationBatchNorm2d)

    def empty_window(self) -> None:
        if isinstance(self.model, LiteralCBN):
            self.model.past = []

    def input(self, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        shape = (8 if seed % 5 == 0 else 2, self.block[0].in_channels, 7 + seed % 3, 7 + seed % 4)
        x = torch.randn(shape, generator=generator, dtype=torch.float64) + seed % 5 - 2
        return x.to(self.dtype)

    def convolve(self, x: Tensor) -> Tensor:
        """In float64, and not through the hooks of the convolution under test."""
        conv = self.block[0]
        weight = conv.weight.double()
        if isinstance(conv, CenteredConv2d):
            weight = weight - weight.mean((1, 2, 3), keepdim=True)
        return conv._conv_forward(x.double(), weight, None if conv.bias is None else conv.bias.double())

    def expected(self, x: Tensor, remember: bool) -> Tensor:
        with torch.enable_grad():
            return self.model(self.convolve(x), self.block[0], remember, x.size(2))

    def assert_close(self, out: Tensor, expected: Tensor, channels: slice | list[int] = slice(None)) -> None:
        """To the digits that rounding leaves of each channel."""
        slack = UNIT[self.dtype] * (self.model.conditioning + 10)
        allowed = slack[:, None, None] * (1 + expected.detach().abs())
        distance = (out.detach().double() - expected.detach()).abs()
        allowed, distance = allowed[:, channels], distance[:, channels]
        assert out.dtype == self.dtype
        assert (distance <= allowed).all(), (distance / allowed).max()

    def compare(self, call: Callable[[Tensor], Tensor], *inputs: Tensor, twice: bool = False) -> None:
        """Compare outputs and gradients of calls that count.

        Args:
            call: Of the block.
            inputs: Of the calls before the one backward pass.
            twice: Whether each is a call without gradients first, whose output it is.
        """
        found, wanted, slack = [], [], 0.0
        for x in inputs:
            x, other = x.clone().requires_grad_(), x.clone().requires_grad_()
            out = call(x)
            if twice:
                self.assert_close(out, self.expected(other, remember=False))
            expected = self.expected(other, remember=True)
            if not twice:
                self.assert_close(out, expected)
            found.append((x, out))
            wanted.append((other, expected))
            slack = max(slack, 1e2 * UNIT[self.dtype] * self.model.conditioning.max().item() ** 1.5)
        gradients, towards = [], [torch.cos(3 * expected.detach()) for _, expected in wanted]
        for pairs in (found, wanted):
            for leaf in (leaves := [x for x, _ in pairs] + list(self.block.parameters())):
                leaf.grad = None
            outputs = [out for _, out in pairs]
            torch.autograd.backward(outputs, [t.to(outputs[0].dtype) for t in towards])
            gradients.append([leaf.grad for leaf in leaves])
        for grad, expected in zip(*gradients, strict=True):
            distance = (grad.double() - expected.double()).abs().max()
            scale = 1 + max(g.double().abs().max() for g in gradients[1])
            assert distance <= slack * scale, (distance, slack, scale)

    @rule(seed=seeds, steps=st.integers(1, 5), lr=st.sampled_from([0.0, 0.01, 0.3, 0.3]))
    def train(self, seed: int, steps: int, lr: float) -> None:
        generator = torch.Generator().manual_seed(seed)
        for step in range(steps):
            self.compare(self.block, self.input(seed + step))
            with torch.no_grad():
                for parameter in self.block[0].parameters():
                    noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter += (lr * noise).to(self.dtype)

    @rule(seed=seeds, number=st.integers(2, 3))
    def accumulate(self, seed: int, number: int) -> None:
        self.compare(self.block, *(self.input(seed + 15 * n) for n in range(number)))

    @rule(seed=seeds)
    def skip_the_backward_pass(self, seed: int) -> None:
        x = self.input(seed)
        self.assert_close(self.block(x), self.expected(x, remember=True))

    @rule(seed=seeds, mode=st.sampled_from(['no_grad', 'inference_mode']))
    def train_without_grad(self, seed: int, mode: str) -> None:
        x = self.input(seed)
        with MODES[mode]():
            out = self.block(x)
        assert not out.requires_grad
        self.assert_close(out, self.expected(x, remember=False))
        self.unrepeated += 1

    @rule(seed=seeds, backward=st.booleans())
    def checkpoint_reentrant(self, seed: int, backward: bool) -> None:
        def call(x: Tensor) -> Tensor:
            return checkpoint(self.block, x, use_reentrant=True)

        if backward:
            self.compare(call, self.input(seed), twice=True)
        else:
            x = self.input(seed).requires_grad_()
            self.assert_close(call(x), self.expected(x, remember=False))
            self.unrepeated += 1

    @rule(seed=seeds, backward=st.booleans())
    def checkpoint_not_reentrant(self, seed: int, backward: bool) -> None:
        def call(x: Tensor) -> Tensor:
            return checkpoint(self.block, x, use_reentrant=False)

        if backward and not self.unrepeated:
            self.compare(call, self.input(seed))
            return
        x = self.input(seed).requires_grad_()
        out = call(x)
        self.assert_close(out, self.expected(x, remember=True))
        if backward:
            with pytest.raises(RuntimeError, match=r'call model\.train\(\)'):
                out.sum().backward()
            self.block.train()
            self.unrepeated = 0

    @rule(seed=seeds, mode=modes)
    def evaluate(self, seed: int, mode: str) -> None:
        self.block.eval()
        with MODES[mode]():
            out = self.block(self.input(seed))
        self.block.train()
        self.unrepeated = 0
        self.model.conditioning = torch.ones_like(self.model.running_var)
        self.assert_close(out, self.model.evaluate(self.convolve(self.input(seed))))

    @rule(seed=seeds, mode=modes)
    def empty(self, seed: int, mode: str) -> None:
        x = self.input(seed)[:0]
        with MODES[mode]():
            # Padding modes other than zeros refuse an empty batch in torch itself.
            y = self.block[0](x) if self.block[0].padding_mode == 'zeros' else x.new_empty(0, *self.shape(x))
            assert self.norm(y).shape == y.shape

    def shape(self, x: Tensor) -> tuple[int, ...]:
        return self.convolve(x.new_zeros(1, *x.shape[1:])).shape[1:]

    @rule(seed=seeds, grad=st.booleans())
    def not_finite(self, seed: int, grad: bool) -> None:
        """Activations whose mean of squares is infinite or undefined, 1e200 by overflow, amid others."""
        for value in (float('nan'), float('inf'), 1e200):
            self.compare(self.block, self.input(seed + 1))
            x = self.input(seed)
            x[0, seed % x.size(1)] = torch.tensor(value, dtype=torch.float64).to(self.dtype)
            with torch.set_grad_enabled(grad):
                out = self.block(x)
            self.unrepeated += not grad
            expected = self.expected(x, remember=grad)
            # Groups that the value did not reach.
            unharmed = [channel for channel in range(out.size(1)) if expected[:, channel].isfinite().all()]
            self.assert_close(out, expected, unharmed)
            self.compare(self.block, self.input(seed + 2))

    @rule(seed=seeds, grad=st.booleans())
    def one_value_per_channel(self, seed: int, grad: bool) -> None:
        conv = self.block[0]
        reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
        if conv.padding_mode != 'zeros':
            return
        padding = {'valid': (0, 0), 'same': [r / 2 for r in reach]}.get(conv.padding, conv.padding)
        size = [int(1 + r - 2 * p) for r, p in zip(reach, padding, strict=True)]
        if min(size) < 1:
            return
        x = torch.randn(1, conv.in_channels, *size, generator=torch.Generator().manual_seed(seed))
        x = x.to(self.dtype)
        k = getattr(self.model, 'window_size', 1)
        k = 1 if self.model.iterations < getattr(self.model, 'burn_in', 0) else k
        refused = k == 1 and not isinstance(self.model, LiteralMABN)
        try:
            with torch.set_grad_enabled(grad):
                out = self.block(x)
        except SingleValueError:
            assert refused
        else:
            assert not refused
            self.assert_close(out, self.expected(x, remember=grad))
        self.unrepeated += not grad

    @precondition(lambda self: self.is_paired and self.norm.window_size > 1)
    @rule(seed=seeds, what=st.sampled_from(['another tensor', 'in place', 'convolution in eval mode']))
    def not_behind_its_convolution(self, seed: int, what: str) -> None:
        conv = self.block[0].train(what != 'convolution in eval mode')
        y = conv(self.input(seed))
        if what == 'another tensor':
            y = y.clone()
        elif what == 'in place':
            y.mul_(2)
        with pytest.raises(PairingError):
            self.norm(y)
        conv.train()

    @rule(seed=seeds, how=st.sampled_from([None, 'deepcopy', 'pickle', 'torch.save']))
    def stop_between_convolution_and_norm_and_go_on_with_a_copy(self, seed: int, how: str | None) -> None:
        self.block[0](self.input(seed))
        block = self.block
        if how == 'deepcopy':
            self.take(copy.deepcopy(block))
        elif how == 'pickle':
            self.take(pickle.loads(pickle.dumps(block)))
        elif how == 'torch.save':
            self.take(through_a_file(block, weights_only=False))
        if how:
            block(self.input(seed + 1)).sum().backward()  # which shares nothing with its copy

    @rule()
    def save(self) -> None:
        if self.dtype == torch.float32:
            self.adopt_rounding()
        model = vars(self.model)
        window = {name: model[name] for name in ('past', 'past_of', 'of_gradients') if name in model}
        self.checkpoint = (
            copy.deepcopy(self.block.state_dict()),
            through_a_file(local_state(self.block)),
            (self.model.state(), window),
        )

    @rule(into=st.sampled_from(['itself', 'the block', 'a new one']), with_window=st.booleans())
    def load(self, into: str, with_window: bool) -> None:
        if into == 'itself':
            self.save()
        if into == 'a new one':
            norm = self.make_norm()
            for name in ('window_size', 'burn_in'):
                if hasattr(norm, name):
                    setattr(norm, name, getattr(self.norm, name))
            self.take(nn.Sequential(self.make_conv(), norm).to(self.dtype))
        state, local, (plain, window) = self.checkpoint
        self.block.load_state_dict(state)
        self.model.load(plain)
        self.empty_window()
        if with_window:
            reasons = load_local_state(self.block, local)
            saved = local['1']['window']
            fits = saved is None or saved['window_size'] == self.norm.window_size
            if fits and state['0.weight'].dtype == self.dtype:
                assert reasons == {}
                vars(self.model).update(window)
            else:
                assert reasons.keys() <= {'1'}
                vars(self.model).update({} if reasons else window)
        if torch.float32 in (self.dtype, state['0.weight'].dtype):
            self.adopt_rounding()

    @rule(part=st.sampled_from(['convolution', 'bias', 'BN']), seed=seeds)
    def load_a_part(self, part: str, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        if part == 'convolution':
            weight = self.block[0].weight
            values = torch.randn(weight.shape, generator=generator).to(weight)
            self.block.load_state_dict({'0.weight': values}, strict=False)
            return
        if part == 'BN':
            bn = nn.BatchNorm2d(self.norm.num_features, affine=self.norm.affine)
            bn.running_mean.normal_(generator=generator)
            bn.running_var.uniform_(0.5, 2, generator=generator)
            bn.num_batches_tracked.fill_(seed % 7)
            state = {f'1.{name}': value for name, value in bn.state_dict().items()}
            self.model.running_mean = bn.running_mean.double()
            self.model.running_var = bn.running_var.double()
            self.model.batches = seed % 7
        elif self.norm.affine:
            state = self.block.state_dict()  # with its version, without which torch 2.1 zeroes BN's counter
            for name in set(state) - {'1.bias'}:
                del state[name]
            state['1.bias'] = torch.randn(self.norm.num_features, generator=generator)
        else:
            return
        self.block.load_state_dict(state, strict=False)
        self.model.restart()

    @rule(how=st.sampled_from(['restart', 'burn_in', 1, 2, 3, 4, 5]))
    def forget(self, how: str | int) -> None:
        """Restart, burn in anew, or give the window another size, which empties it in its next use."""
        if how == 'restart':
            self.norm.restart()
            self.model.restart()
        elif isinstance(self.model, LiteralCBN):
            if how == 'burn_in':
                self.norm.burn_in = self.model.burn_in = self.model.iterations + 1
            else:
                self.norm.window_size = self.model.window_size = how

    @precondition(lambda self: isinstance(self.model, LiteralMABN) and self.model.iterations >= self.model.m)
    @rule()
    def a_thousand_iterations_later(self) -> None:
        """MABN's r comes into play in a few iterations; 12 is a multiple of all buffer sizes here."""
        self.model.iterations += max(1000 - self.model.iterations, 24) // 12 * 12
        later = {'1.iterations': torch.tensor(self.model.iterations)}
        self.block.load_state_dict({**self.block.state_dict(), **later})

    @rule(pair_at_once=st.booleans(), seed=seeds)
    def another_convolution(self, pair_at_once: bool, seed: int) -> None:
        self.block[0] = self.make_conv().to(self.dtype)
        if self.is_paired:
            if not pair_at_once and self.norm.window_size > 1:
                with pytest.raises(PairingError):
                    self.block(self.input(seed))
            self.empty_window()
        pair_conv_norm(self.block)

    @rule(seed=seeds)
    def population_statistics(self, seed: int) -> None:
        batches = [self.input(seed + n) for n in range(3)]
        update_bn(batches, self.block)
        self.model.collect([self.convolve(x) for x in batches])
        self.unrepeated = 0

    @rule(dtype=st.sampled_from([torch.float32, torch.float64]))
    def convert(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self.block.to(dtype)
        self.adopt_rounding()
        self.model.dtype = dtype

    @rule(seed=seeds, steps=st.integers(1, 3), dtype=st.sampled_from(HALVES))
    def visit_half(self, seed: int, steps: int, dtype: torch.dtype) -> None:
        """Few digits are left to compare; what must hold is that nothing breaks."""
        self.block.to(dtype)
        for step in range(steps):
            # oneDNN of torch 2.11 returns whatever the memory holds where an output is one column wide.
            with torch.backends.mkldnn.flags(enabled=False):
                out = self.block(self.input(seed + step).to(dtype))
                out.float().square().mean().backward()
            assert out.dtype == dtype
            values = {'output': out, **{name: p.grad for name, p in self.block.named_parameters()}}
            not_finite = [name for name, value in values.items() if not value.isfinite().all()]
            assert not_finite == [] or dtype == torch.float16 and 'output' not in not_finite
        self.block.to(self.dtype)
        self.block.load_state_dict(self.block.state_dict())  # empties the window
        self.empty_window()
        self.model.iterations += steps
        self.model.batches += steps
        self.adopt_rounding(torch.inf)

    def adopt_rounding(self, slack: float = 10 * UNIT[torch.float32]) -> None:
        """Go on with the digits that the layer has, which are not far from the model's."""
        values = [
            (vars(self.model), name, getattr(self.norm, name)) for name in ('running_mean', 'running_var')
        ]
        if hasattr(self.norm, 'psi_hat'):
            values.append((vars(self.model), 'psi_hat', self.norm.psi_hat))
        for name, slots in (('chi2_buffer', 'chi2s'), ('psi_buffer', 'psis')):
            if hasattr(self.norm, name):
                values += [
                    (vars(self.model)[slots], n, row) for n, row in enumerate(getattr(self.norm, name))
                ]
        for where, name, value in values:
            value = value.double().clone()
            if name in where:
                assert ((where[name] - value).abs() <= slack * (1 + self.scale())).all(), name
            where[name] = value

    def scale(self) -> Tensor:
        return self.model.running_mean.square() + self.model.running_var

    def teardown(self) -> None:
        if getattr(self.model, 'clamped', 0):
            event('the maximum of eq. 10 took over')

    @invariant()
    def same_statistics(self) -> None:
        if not hasattr(self, 'block'):
            return
        for name in ('running_mean', 'running_var'):
            distance = (getattr(self.norm, name).double() - getattr(self.model, name)).abs()
            assert (distance <= 10 * UNIT[self.dtype] * (1 + self.scale())).all(), (name, distance)
        assert (self.norm.running_var >= 0).all()
        assert int(self.norm.iterations) == self.model.iterations
        # MABN counts on the host what it does not count on the device.
        assert isinstance(self.model, LiteralMABN) or self.norm.iteration == self.model.iterations
        assert int(self.norm.num_batches_tracked) == self.model.batches


def through_a_file(content: object, weights_only: bool = True) -> object:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=weights_only)


TestAnySequenceOfCalls = AnySequenceOfCalls.TestCase
TestAnySequenceOfCalls.settings = settings(
    max_examples=3 * settings.default.max_examples, stateful_step_count=20
)
