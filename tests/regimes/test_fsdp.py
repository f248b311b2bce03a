"""Sharded parameters: modules that hold convolution and norm train, a convolution alone is refused."""

import pytest
import torch
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers import processes
from tests.helpers.norms import NORMS, every_norm

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6), reason='earlier FSDP needs a GPU'
    ),
]


def wrap(part: nn.Module) -> nn.Module:
    return FullyShardedDataParallel(part, device_id=torch.device('cpu'))


def make_model(name: str) -> nn.Sequential:
    torch.manual_seed(0)
    norm = NORMS[name]
    model = nn.Sequential(nn.Sequential(norm.conv(3, 4, 3), norm(4)), nn.ReLU())
    pair_conv_norm(model)
    return model


def outputs(model: nn.Module) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    results = []
    for _ in range(5):
        out = model(torch.randn(2, 3, 8, 8, generator=generator))
        out.square().sum().backward()
        results.append(out.detach())
    return results


def train(rank: int, name: str) -> None:
    expected = outputs(make_model(name))
    model = make_model(name)
    model[0] = wrap(model[0])
    for one, other in zip(outputs(wrap(model)), expected, strict=True):
        torch.testing.assert_close(one, other)


def wrap_the_convolution(rank: int) -> None:
    model = make_model('CBN')
    model[0][0] = wrap(model[0][0])
    with pytest.raises(RuntimeError, match='is sharded when the norm behind it needs it'):
        outputs(wrap(model))  # the outermost one keeps its parameters whole


@every_norm
def test_a_sharded_model_trains_as_a_whole_one(name):
    processes.run(train, name, processes=2)


def test_a_convolution_alone_is_refused():
    processes.run(wrap_the_convolution, processes=2)
