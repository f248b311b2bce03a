"""``torch.compile`` of the model around the layers, whose training part runs as it is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mmdet_cbn.layers import pair_conv_norm
from tests.helpers.norms import NORMS
from tests.helpers.small_detector import METHODS, STEPS, images, make_norm, train
from tests.helpers.snapshot import assert_same, snapshot

pytestmark = pytest.mark.slow


class ResidualDetector(nn.Module):
    """Without loops over submodules, in which torch.compile gives up on a function that it must interrupt."""

    def __init__(self, method: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        conv = NORMS[method].conv
        self.conv1 = conv(3, 6, 3, stride=2, padding=1, bias=False)
        self.bn1 = make_norm(method, 6)
        self.conv2 = conv(6, 6, 3, padding=1, bias=False)
        self.bn2 = make_norm(method, 6)
        self.predict = nn.Conv2d(6, 3, 1)
        pair_conv_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        return self.predict(F.relu(x + self.bn2(self.conv2(x))))


def loss(model: nn.Module, x: Tensor) -> Tensor:
    prediction = model(x)
    return F.smooth_l1_loss(prediction, F.adaptive_avg_pool2d(x, prediction.shape[2:]))


class Backend:
    """Counts the graphs that it is given, and the convolutions in them."""

    def __init__(self) -> None:
        self.graphs = self.convolutions = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable:
        self.graphs += 1
        self.convolutions += str(graph.graph).count('conv')
        # The backend inductor would take a minute for its C++.
        return torch._dynamo.backends.registry.lookup_backend('aot_eager')(graph, inputs)


@pytest.mark.parametrize('method', METHODS)
def test_compiled_model_equals_eager(method):
    torch._dynamo.reset()
    backend, graphs, results = Backend(), [], []
    for compiled in (False, True):
        model = ResidualDetector(method)
        run = torch.compile(model, backend=backend) if compiled else model
        losses = train(run, loss, after_step=lambda step: graphs.append(backend.graphs))
        result = {'losses': torch.stack(losses), **snapshot(model)}
        model.eval()
        with torch.no_grad():
            result['evaluated'] = run(images(0))
        results.append(result)
    assert_same(*results)
    assert backend.convolutions
    # The first step compiles; the counters of the layers, which move on, are no reason to do it again.
    first, *_, last = graphs[STEPS:]
    assert last == first > 0
