"""What torch's own tools and users do with the layers beside training them."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from mmdet_cbn.layers import (
    AveragedBatchNorm2d,
    BatchRenorm2d,
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    PairingError,
    pair_conv_norm,
)
from tests.helpers.blocks import every_layer, make_block, train
from tests.helpers.norms import NORMS, every_norm
from tests.helpers.snapshot import assert_same, memory


def trained_net(name: str) -> nn.Sequential:
    """Two blocks, trained and then moved to other weights, as averaging weights does."""
    torch.manual_seed(0)
    norm = NORMS[name]
    layers = [norm.conv(3, 6, 3), norm(6), nn.ReLU(), norm.conv(6, 5, 3), norm(5)]
    net = nn.Sequential(*layers).double()
    pair_conv_norm(net)
    for _ in range(6):
        net(torch.randn(4, 3, 9, 8, dtype=torch.float64)).square().sum().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


@every_norm
def test_update_bn_collects_population_statistics(name):
    net = trained_net(name)
    batches = torch.randn(5, 4, 3, 9, 8, dtype=torch.float64)
    before = {n: b for n, b in memory(net).items() if n.endswith(('iterations', '_buffer'))}
    update_bn(batches, net)
    x = batches
    for conv, norm in ((net[0], net[1]), (net[3], net[4])):
        weight = conv.centered_weight() if isinstance(conv, CenteredConv2d) else conv.weight
        y = torch.stack([nn.functional.conv2d(batch, weight, conv.bias) for batch in x])
        axes = (1, 3, 4)
        if isinstance(norm, MovingAverageBatchNorm2d):
            mean, chi2 = torch.zeros(norm.num_features, dtype=torch.float64), y.square().mean(axes)
            expected = chi2.mean(0)
            y = y / (chi2[:, None, :, None, None] + norm.eps).sqrt()
        else:
            mean, expected = y.mean(axes).mean(0), y.var(axes).mean(0)
            if isinstance(norm, AveragedBatchNorm2d):  # with the spread of the means
                expected = y.square().mean((0, 1, 3, 4)) - mean.square()
            y = torch.stack([nn.functional.batch_norm(b, None, None, training=True, eps=norm.eps) for b in y])
        torch.testing.assert_close(norm.running_mean, mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(norm.running_var, expected, rtol=1e-9, atol=1e-9)
        y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
        x = y.detach().relu()
    assert_same({n: memory(net)[n] for n in before}, before)
    out = net(batches[0])  # and trains on
    out.sum().backward()
    assert out.isfinite().all()


@pytest.mark.parametrize('layer', [MovingAverageBatchNorm2d, BatchRenorm2d])
def test_training_without_a_momentum_is_refused(layer):
    norm = layer(4)
    norm.momentum = None
    with pytest.raises(ValueError, match='needs track_running_stats=True and a momentum'):
        norm(torch.randn(2, 4, 3, 3))


IN_PLACE = {
    'nn.ReLU(inplace=True)': nn.ReLU(inplace=True),
    'nn.Dropout2d(inplace=True)': nn.Dropout2d(inplace=True),
    'add_': lambda y: y.add_(1),
    'mul_': lambda y: y.mul_(2),
}


@pytest.mark.parametrize('change', IN_PLACE.values(), ids=IN_PLACE)
def test_a_change_in_place_between_convolution_and_norm_is_refused(change):
    conv, norm = nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4)
    pair_conv_norm(nn.Sequential(conv, norm))
    with pytest.raises(PairingError, match='changed in place'):
        norm(change(conv(torch.randn(2, 3, 6, 6))))


@pytest.mark.parametrize('change', [lambda y: 2 * y, lambda y: y.mul_(2)], ids=['new', 'in place'])
@pytest.mark.parametrize('before', [True, False])
def test_a_hook_that_changes_the_output_is_refused(change, before):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4))
    if not before:
        pair_conv_norm(net)
    net[0].register_forward_hook(lambda conv, inputs, output: change(output))
    pair_conv_norm(net)
    with pytest.raises(PairingError):
        net(torch.randn(2, 3, 6, 6))


def test_a_hook_that_looks_on_is_welcome():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4))
    seen = []
    net[0].register_forward_hook(lambda conv, inputs, output: seen.append(output.shape))
    pair_conv_norm(net)
    net(torch.randn(2, 3, 6, 6))
    assert len(seen) == 1


@pytest.mark.parametrize('averaging', ['window', 'exponential'])
def test_another_convolution_has_a_window_of_its_own(averaging):
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4, averaging=averaging))
    pair_conv_norm(net)
    x = torch.randn(2, 3, 6, 6)
    for _ in range(3):
        net(torch.randn(2, 3, 6, 6))
    net[0] = nn.Conv2d(3, 4, 1)
    pair_conv_norm(net)
    torch.testing.assert_close(net(x), nn.BatchNorm2d(4)(net[0](x)))


def test_pairing_again_keeps_the_window():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4))
    for _ in range(2):
        pair_conv_norm(net)
        net(torch.randn(2, 3, 6, 6))
    pair_conv_norm(copy.deepcopy(net))
    assert net[1].window.fill == 2


@every_layer
def test_a_state_dict_leaves_layers_alone_that_it_does_not_name(make):
    block = make_block(make)
    train(block, 4)
    before = memory(block)
    block.load_state_dict({'0.weight': torch.zeros_like(block[0].weight)}, strict=False)
    assert_same(memory(block), before)
    with pytest.raises(RuntimeError, match='Missing key.*1.weight'):
        block.load_state_dict({'0.weight': block[0].weight})


def test_the_counter_of_another_layer_is_not_taken_over():
    theirs = CrossIterationBatchNorm2d(4, window_size=1)
    for _ in range(3):
        theirs(torch.randn(2, 4, 5, 5))
    for ours in (BatchRenorm2d(4), NaiveCrossIterationBatchNorm2d(4)):
        with pytest.warns(UserWarning, match='another type'):
            ours.load_state_dict(theirs.state_dict())
        assert ours.iterations == ours.iteration == 0
        assert torch.equal(ours.running_mean, theirs.running_mean)
    same = CrossIterationBatchNorm2d(4, window_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        same.load_state_dict(theirs.state_dict())
    assert same.iterations == same.iteration == 3


@every_layer
def test_reset_parameters_makes_a_new_layer(make):
    """As it is called after ``to_empty``, which leaves garbage."""
    block = make_block(make)
    train(block, 5)
    norm, new = block[1], make_block(make)[1]
    for value in norm.state_dict().values():
        value.fill_(7)
    norm.reset_parameters()
    assert_same(norm.state_dict(), new.state_dict())
    assert norm.iteration == 0
    assert getattr(norm, 'window', None) is None


@every_norm
@pytest.mark.parametrize('holds_memory', [True, False])
def test_a_model_on_meta_takes_the_tensors_of_a_checkpoint(name, holds_memory):
    norm, empty = NORMS[name](4), NORMS[name](4, device='meta')
    state = norm.state_dict() if holds_memory else nn.BatchNorm2d(4).state_dict()
    empty.load_state_dict(state, assign=True)
    assert {value.device.type for value in empty.state_dict().values()} == {'cpu'}
    assert empty.iteration == 0


def test_a_convolution_called_by_name():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4))
    pair_conv_norm(net)
    x = torch.randn(2, 3, 6, 6)
    torch.testing.assert_close(net[1](net[0](input=x)), nn.BatchNorm2d(4)(net[0](x)))


def test_modes_that_differ_are_named():
    net = nn.Sequential(nn.Conv2d(3, 4, 1).eval(), CrossIterationBatchNorm2d(4))
    pair_conv_norm(net)
    with pytest.raises(PairingError, match='1 .*is in training mode and its convolution 0 in eval mode'):
        net(torch.randn(2, 3, 6, 6))


@every_norm
def test_eps_must_be_above_zero(name):
    with pytest.raises(ValueError, match=r'eps must be a finite number above 0, got eps=0'):
        NORMS[name](4, eps=0)


@pytest.mark.parametrize('weight', [torch.randn(12), torch.randn(0)])
def test_a_weight_that_is_sharded_is_named(weight):
    """As FSDP leaves the weight of a convolution that it wraps alone, after its forward pass."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4))
    pair_conv_norm(net)
    y = net[0](torch.randn(2, 3, 6, 6))
    net[0].weight = nn.Parameter(weight)
    with pytest.raises(RuntimeError, match='is sharded when the norm behind it needs it: wrap the module'):
        net[1](y)
