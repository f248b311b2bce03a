"""``statistics_in_use`` against the affine map that a layer really applied."""

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import CenteredConv2d, MovingAverageBatchNorm2d, pair_conv_norm
from tests.helpers.norms import NORMS, every_norm


@every_norm
def test_they_make_the_output(name):
    norm = NORMS[name](3)
    if name == 'MABN':
        norm.iterations.fill_(1000)  # from where on it renormalizes
        norm.r_max = 1.1
    block = nn.Sequential(CenteredConv2d(2, 3, 3), norm, nn.ReLU(inplace=True)).double()
    pair_conv_norm(block)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    for _ in range(4):
        x = block[0](torch.randn(2, 2, 5, 5, dtype=torch.float64))
        y = norm(x)
        node, out = y.grad_fn, y.clone()
        grad = torch.randn_like(out)
        block[2](y).backward(grad)
        used = norm.statistics_in_use(node)
        mean = used.get('mean', torch.zeros(3, dtype=torch.float64))
        var = used['var'] if 'var' in used else used['chi2']
        z = (x - mean.view(-1, 1, 1)) / (var + norm.eps).sqrt().view(-1, 1, 1)
        expected = z * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
        torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)
    assert ('psi' in used) == (name == 'MABN')


def test_psi_in_use_is_what_the_gradient_was_made_with():
    norm = MovingAverageBatchNorm2d(3, buffer_size=2, warmup_iters=0, affine=False, dtype=torch.float64)
    for _ in range(4):
        x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
        out, grad = norm(x), torch.randn(2, 3, 4, 4, dtype=torch.float64)
        assert 'psi' not in norm.statistics_in_use(out.grad_fn)
        out.backward(grad)
        used = {name: value.view(-1, 1, 1) for name, value in norm.statistics_in_use(out.grad_fn).items()}
        std = (used['chi2'] + norm.eps).sqrt()
        torch.testing.assert_close(x.grad, (grad - x / std * used['psi']) / std, rtol=1e-9, atol=1e-9)


@every_norm
@pytest.mark.parametrize('other', ['its evaluation', 'another layer', 'no layer'])
def test_other_outputs_have_none(name, other):
    block, another = (nn.Sequential(CenteredConv2d(2, 3, 3), NORMS[name](3)) for _ in range(2))
    for each in (block, another):
        pair_conv_norm(each)
    x = torch.randn(2, 2, 5, 5)
    kept = block(x)  # the layer has a living call of its own
    norm = block[1]
    out = {
        'its evaluation': lambda: block.eval()(x),
        'another layer': lambda: another(x),
        'no layer': kept.exp,
    }[other]()
    with pytest.raises(ValueError, match=f'did not make a training output of this {type(norm).__name__}'):
        norm.statistics_in_use(out.grad_fn)
    assert norm.statistics_in_use(kept.grad_fn)
