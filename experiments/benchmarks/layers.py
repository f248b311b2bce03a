"""Speed and memory of a convolution with each norm, beside BN."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmdet_cbn.layers import fold_centering, pair_conv_norm

from ..common.methods import Method
from .measuring import MIN_SECONDS, interleave, kept_bytes, peak_memory, ratio, settle
from .norms import LAYER_NORMS, REFERENCE, without_sync
from .operations import training_operations

FILL = 8  # steps until every window is full, and the allocator warm


@dataclass(frozen=True)
class Case:
    """A convolution that keeps the shape (N, C, H, W) of its input."""

    shape: tuple[int, int, int, int]
    kernel_size: int

    def __str__(self) -> str:
        return f'{self.kernel_size}x{self.kernel_size}, {self.shape}'


CASES = {
    'cpu': (
        Case((128, 256, 7, 7), 3),
        Case((64, 256, 14, 14), 3),
        Case((2, 256, 50, 84), 3),
        Case((2, 512, 25, 42), 1),
    ),
    'cuda': (
        Case((512, 256, 7, 7), 3),
        Case((128, 256, 14, 14), 3),
        Case((4, 256, 200, 336), 3),
        Case((4, 512, 100, 168), 1),
    ),
}


@dataclass(frozen=True)
class Setting:
    """How the layers run.

    Attributes:
        device: Where.
        dtype: float32, or a half type for autocast.
        memory_format: Of input and weights.
        graph: Whether training steps are replayed from a CUDA graph, which one of them was captured in.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    memory_format: torch.memory_format = torch.contiguous_format
    graph: bool = False

    def autocast(self) -> AbstractContextManager[object]:
        """Return autocast for half types."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype) if half else nullcontext()


@dataclass(frozen=True)
class Result:
    """One norm in one case.

    Attributes:
        case: The convolution.
        norm: Name of the norm.
        train_ms: Median time of a training step: forward, backward, SGD update.
        train_ratio: The same beside BN.
        eval_ratio: Forward in eval mode beside BN's; like the next two None for graphs, which hold training
            alone and their memory throughout.
        folded_ratio: Forward after folding beside BN's after folding; None for norms that do not fold.
        peak_ratio: Memory at the peak of a training step beside BN's, what the layer keeps included.
        state_mb: What the layer keeps between iterations beyond BN, in MB (1e6 bytes).
        operations: See :func:`training_operations`.
    """

    case: str
    norm: str
    train_ms: float
    train_ratio: float
    eval_ratio: float | None
    folded_ratio: float | None
    peak_ratio: float | None
    state_mb: float
    operations: int


def benchmark_case(
    case: Case,
    setting: Setting,
    rounds: int,
    seconds: float = MIN_SECONDS,
    norms: Mapping[str, Method] = LAYER_NORMS,
) -> list[Result]:
    """Measure every norm in one case.

    Args:
        case: The convolution.
        setting: Device, type, memory format, and whether steps are captured.
        rounds: See :func:`interleave`.
        seconds: Likewise.
        norms: What is measured, BN among them.
    """
    torch.manual_seed(0)
    x = torch.randn(case.shape, device=setting.device).to(memory_format=setting.memory_format)
    measured = without_sync(norms, setting.device)
    blocks = {name: make_block(method, case, setting) for name, method in measured.items()}
    steps = {name: training_step(block, x, setting) for name, block in blocks.items()}
    for name, step in steps.items():
        step()
        settle(blocks[name])
        for _ in range(FILL):
            step()
    operations = {
        name: training_operations(block, x.clone().requires_grad_()) for name, block in blocks.items()
    }
    state = {name: kept_bytes(block[1]) for name, block in blocks.items()}
    evaluation, folded, peak = {}, {}, {}
    if setting.graph:
        steps = {name: captured(step) for name, step in steps.items()}
    train = interleave(steps, rounds, f'{case}, training', seconds)
    if not setting.graph:
        peak = {name: peak_memory(step, setting.device) + state[name] for name, step in steps.items()}
        for block in blocks.values():
            block.eval()
        forwards = {name: _forward(block, x, setting) for name, block in blocks.items()}
        evaluation = interleave(forwards, rounds, f'{case}, eval mode', seconds)
        forwards = {
            name: _forward(_folded(block), x, setting)
            for name, block in blocks.items()
            if measured[name].norm is not nn.GroupNorm
        }
        folded = interleave(forwards, rounds, f'{case}, folded', seconds)
    return [
        Result(
            case=str(case),
            norm=name,
            train_ms=median(train[name]) * 1e3,
            train_ratio=ratio(train, name, REFERENCE),
            eval_ratio=ratio(evaluation, name, REFERENCE) if evaluation else None,
            folded_ratio=ratio(folded, name, REFERENCE) if name in folded else None,
            peak_ratio=peak[name] / peak[REFERENCE] if peak else None,
            state_mb=(state[name] - state[REFERENCE]) / 1e6,
            operations=operations[name].total(),
        )
        for name in blocks
    ]


def make_block(method: Method, case: Case, setting: Setting) -> nn.Sequential:
    """Return convolution, norm and ReLU, paired, where the setting says."""
    channels, size = case.shape[1], case.kernel_size
    block = nn.Sequential(
        method.conv(channels, channels, size, padding=size // 2, bias=False),
        method.make_norm(channels),
        nn.ReLU(inplace=True),
    )
    pair_conv_norm(block)
    return block.to(setting.device, memory_format=setting.memory_format)


def training_step(block: nn.Module, x: Tensor, setting: Setting) -> Callable[[], None]:
    """Return a function that trains the block on ``x`` once: forward, backward, SGD update."""
    optimizer = torch.optim.SGD(block.parameters(), lr=1e-3)
    x = x.clone().requires_grad_()
    grad = torch.randn_like(x)

    def step() -> None:
        with setting.autocast():
            out = block(x)
        out.backward(grad.to(out.dtype))
        optimizer.step()
        x.grad = None
        optimizer.zero_grad()

    return step


def captured(step: Callable[[], None]) -> Callable[[], None]:
    """Capture a step that has run often enough for its window to be in place."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(FILL):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay(kept: Callable[[], None] = step) -> None:  # whose tensors the graph works on
        graph.replay()

    return replay


def _forward(block: nn.Module, x: Tensor, setting: Setting) -> Callable[[], Tensor]:
    @torch.no_grad()
    def forward() -> Tensor:
        with setting.autocast():
            return block(x)

    return forward


def _folded(block: nn.Sequential) -> nn.Sequential:
    convolution, norm, activation = block
    plain = fuse_conv_bn_eval(convolution, norm)
    return fold_centering(nn.Sequential(plain, activation))
