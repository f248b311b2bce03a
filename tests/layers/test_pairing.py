"""Which convolution a layer is paired with, and what happens where it is not."""

import gc
import pickle
import weakref
from copy import deepcopy

import pytest
import torch
from torch import nn

from mmdet_cbn.layers import (
    CenteredConv2d,
    CrossIterationBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
    effective_weight,
    pair_conv_norm,
)


class Block(nn.Module):
    """A residual block in MMDetection's way: norms registered after their convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(4, 8, 3, padding=1)
        self.add_module('bn1', CrossIterationBatchNorm2d(8))
        self.conv2 = nn.Conv2d(8, 4, 1)
        self.add_module('bn2', CrossIterationBatchNorm2d(4))
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


def test_pairs_by_registration_under_the_same_parent():
    model = nn.Sequential(nn.Sequential(Block(), nn.Conv2d(4, 6, 1)), nn.ReLU(), Block())
    expected = {
        '0.0.bn1': '0.0.conv1',
        '0.0.bn2': '0.0.conv2',
        '2.bn1': '2.conv1',
        '2.bn2': '2.conv2',
    }
    assert pair_conv_norm(model) == expected


def test_pairing_twice_changes_nothing():
    model = Block()
    assert pair_conv_norm(model) == pair_conv_norm(model)
    assert [len(m._forward_hooks) for m in (model.conv1, model.conv2)] == [1, 1]


@pytest.mark.parametrize('copy', [deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_carry_their_own_pairing(copy):
    model = Block()
    pair_conv_norm(model)
    x = torch.randn(2, 4, 6, 6)
    model(x)
    twin = copy(model)
    model(x + 1)
    assert (int(model.bn1.window.fill), int(twin.bn1.window.fill)) == (2, 1)
    for _ in range(2):
        twin(x)
    assert (int(model.bn1.window.fill), int(twin.bn1.window.fill)) == (2, 3)


def test_training_unpaired_raises_and_says_how_to_pair():
    with pytest.raises(RuntimeError, match=r'(?s)window_size=4.*pair_conv_norm\(model\).*CrossIterationHook'):
        Block()(torch.randn(2, 4, 6, 6))


def test_training_unpaired_raises_in_burn_in_too():
    norm = CrossIterationBatchNorm2d(4, burn_in=100)
    with pytest.raises(RuntimeError, match='pair_conv_norm'):
        norm(torch.randn(2, 4, 6, 6))


def test_naive_cbn_needs_no_pairing():
    assert pair_conv_norm(nn.Sequential(NaiveCrossIterationBatchNorm2d(4))) == {}


@pytest.mark.parametrize('conv', [nn.ConvTranspose2d(4, 8, 2), nn.Conv1d(4, 8, 1), nn.Conv3d(4, 8, 1)])
def test_other_convolutions_are_refused_by_name(conv):
    kind = type(conv).__name__
    with pytest.raises(TypeError, match=f'(?s)1 .*cannot be paired with 0: {kind} is not a torch.nn.Conv2d'):
        pair_conv_norm(nn.Sequential(conv, CrossIterationBatchNorm2d(8)))


def test_a_deformable_convolution_is_refused():
    """Such layers have a kernel size and a weight, and are no ``nn.Conv2d``."""

    class DeformConv2d(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel_size = (3, 3)
            self.weight = nn.Parameter(torch.zeros(8, 4, 3, 3))

    model = nn.Sequential(nn.Conv2d(4, 4, 1), DeformConv2d(), CrossIterationBatchNorm2d(8))
    with pytest.raises(TypeError, match=r'2 .*cannot be paired with 1: DeformConv2d'):
        pair_conv_norm(model)


def test_a_subclass_with_an_unknown_weight_is_refused():
    class ScaledConv2d(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * 2

    model = nn.Sequential(ScaledConv2d(4, 8, 1), CrossIterationBatchNorm2d(8))
    with pytest.raises(TypeError, match='effective_weight.register'):
        pair_conv_norm(model)
    assert not model[0]._forward_hooks


def test_no_convolution_before_the_norm():
    model = nn.Sequential(nn.Conv2d(4, 8, 1), nn.Sequential(CrossIterationBatchNorm2d(8)))
    with pytest.raises(ValueError, match=r'1\.0 .*no convolution registered before it'):
        pair_conv_norm(model)


class Lists(nn.Module):
    """As in Res2Net: norms and convolutions in lists of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4, 4, 1) for _ in range(3))
        self.bns = nn.ModuleList(CrossIterationBatchNorm2d(4) for _ in range(3))

    def forward(self, x):
        for conv, bn in zip(self.convs, self.bns, strict=True):
            x = bn(conv(x)).relu()
        return x


def test_a_norm_in_a_list_is_paired_by_the_forward_pass():
    model = nn.Sequential(Lists())
    assert pair_conv_norm(model) == {f'0.bns.{i}': f'0.convs.{i}' for i in range(3)}
    model(torch.randn(2, 4, 6, 6)).sum().backward()
    assert [int(bn.window.fill) for bn in model[0].bns] == [1, 1, 1]
    assert pair_conv_norm(model) == {f'0.bns.{i}': f'0.convs.{i}' for i in range(3)}


def test_a_convolution_of_another_size():
    model = nn.Sequential(nn.Conv2d(4, 6, 1), CrossIterationBatchNorm2d(8))
    with pytest.raises(ValueError, match=r'1 .*8 channels, but 0.*returns 6'):
        pair_conv_norm(model)


def test_a_failed_pairing_leaves_the_model_as_it_was():
    model = nn.Sequential(Block(), CrossIterationBatchNorm2d(8))
    with pytest.raises(ValueError, match='no convolution'):
        pair_conv_norm(model)
    assert not model[0].conv1._forward_hooks
    assert model[0].bn1.pair_names is None


def test_a_tensor_from_elsewhere_raises_and_names_both():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), CrossIterationBatchNorm2d(4))
    pair_conv_norm(model)
    with pytest.raises(RuntimeError, match=r'2 .*not the output of its convolution 0'):
        model(torch.randn(2, 4, 6, 6))


def test_a_handover_counts_for_one_call_only():
    conv, norm = nn.Conv2d(4, 4, 1), CrossIterationBatchNorm2d(4)
    pair_conv_norm(nn.Sequential(conv, norm))
    y = conv(torch.randn(2, 4, 6, 6))
    norm(y)
    with pytest.raises(RuntimeError, match='not the output'):
        norm(y)


def hooks(module: nn.Module) -> list[int]:
    return [len(part._forward_hooks) for part in module]


def test_in_eval_mode_nobody_listens():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), CrossIterationBatchNorm2d(4))
    pair_conv_norm(model)
    assert hooks(model) == [1, 0]
    assert hooks(model.eval()) == [0, 0]
    twin = deepcopy(model)
    pair_conv_norm(model)
    assert hooks(model) == [0, 0]
    for one in (model, twin):
        assert hooks(one.train()) == [1, 0]
        one(torch.randn(2, 4, 6, 6)).sum().backward()
        assert one[1].window.fill == 1


def test_a_shared_convolution_is_listened_to_while_one_of_its_norms_trains():
    conv = nn.Conv2d(4, 4, 1)
    norms = [CrossIterationBatchNorm2d(4) for _ in range(2)]
    pair_conv_norm(nn.ModuleList(nn.Sequential(conv, norm) for norm in norms))
    norms[0].eval()
    for norm in norms:
        norm(conv(torch.randn(2, 4, 6, 6)))
    assert norms[1].window.fill == 1
    norms[1].eval()
    assert not conv._forward_hooks


def test_eval_mode_keeps_no_activations():
    model = nn.Sequential(nn.Conv2d(4, 4, 1), CrossIterationBatchNorm2d(4)).eval()
    pair_conv_norm(model)
    x = torch.randn(2, 4, 6, 6)
    alive = weakref.ref(x)
    model(x)
    model(x)
    del x
    assert alive() is None


def test_a_deleted_model_is_collected():
    model = Block()
    pair_conv_norm(model)
    model(torch.randn(2, 4, 6, 6)).sum().backward()
    alive = weakref.ref(model.conv1)
    del model
    gc.collect()
    assert alive() is None


def test_centred_convolution_takes_part_with_its_centred_weight():
    """Equal to CBN behind a plain convolution that holds the centred weight."""
    centred = nn.Sequential(CenteredConv2d(4, 6, 3), CrossIterationBatchNorm2d(6)).double()
    plain = nn.Sequential(nn.Conv2d(4, 6, 3), CrossIterationBatchNorm2d(6)).double()
    for model in (centred, plain):
        pair_conv_norm(model)
    for _ in range(6):
        with torch.no_grad():
            centred[0].weight += 0.05 * torch.randn_like(centred[0].weight) + 0.3
            mean = centred[0].weight.mean((1, 2, 3), keepdim=True)
            plain[0].weight.copy_(centred[0].weight - mean)
            plain[0].bias.copy_(centred[0].bias)
        x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(centred(x), plain(x), rtol=1e-9, atol=1e-9)
    assert torch.equal(effective_weight(centred[0]), centred[0].centered_weight())


def test_one_convolution_shared_by_several_norms():
    """RTMDet's head shares a convolution over levels, each with a norm of its own."""
    conv = nn.Conv2d(4, 6, 3)
    levels = nn.ModuleList(nn.Sequential(conv, CrossIterationBatchNorm2d(6)) for _ in range(3))
    pairs = pair_conv_norm(levels)
    assert set(pairs) == {'0.1', '1.1', '2.1'}
    for size in (9, 7, 5):
        for level in levels:
            level(torch.randn(2, 4, size, size))
    assert [int(level[1].window.fill) for level in levels] == [3, 3, 3]


def test_only_modules_can_be_paired():
    with pytest.raises(TypeError, match="must be a torch.nn.Module, got 'model'"):
        pair_conv_norm('model')
