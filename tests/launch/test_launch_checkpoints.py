"""Checkpoints that fit a model, or may be meant as they are, pass."""

import pytest

pytest.importorskip('mmengine')

import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from torch import nn

from mmdet_cbn.launch import LaunchError
from mmdet_cbn.launch.checkpoints import check_checkpoints
from mmdet_cbn.layers import CenteredConv2d, CrossIterationBatchNorm2d, MovingAverageBatchNorm2d


def model(buffer_size=4, channels=8):
    norms = CrossIterationBatchNorm2d(channels), MovingAverageBatchNorm2d(8, buffer_size=buffer_size)
    return nn.Sequential(nn.Conv2d(3, channels, 1), norms[0], CenteredConv2d(channels, 8, 1), norms[1])


@pytest.fixture
def check(tmp_path):
    """Check weights against a model."""

    def check(weights, network, training=False, **others):
        torch.save({'state_dict': weights, **others}, tmp_path / 'some.pth')
        cfg = Config({'load_from': str(tmp_path / 'some.pth'), 'work_dir': str(tmp_path)})
        check_checkpoints(cfg, network, training)

    return check


def test_its_own_weights(check):
    check(model().state_dict(), model())


def test_histories_of_the_losses_beside_the_weights(check):
    """What MMEngine saves is more than the restricted reader takes."""
    check(model().state_dict(), model(), message_hub={'loss': HistoryBuffer()})


def test_processes_put_a_word_before_the_names(check):
    check({f'module.{key}': value for key, value in model().state_dict().items()}, model())


def test_weights_of_batch_norm(check):
    """They lack what the layers remember, and old ones the counter as well."""
    plain = nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    weights = plain.state_dict()
    check({key: value for key, value in weights.items() if 'num_batches_tracked' not in key}, model())


def test_memory_of_another_size_is_no_misfit(check):
    check(model(buffer_size=4).state_dict(), model(buffer_size=5))


def test_counts_of_what_does_not_fit(check):
    weights = model(channels=6).state_dict()
    del weights['3.weight'], weights['3.bias']
    with pytest.raises(LaunchError) as info:
        check(weights, model())
    total = len(model().state_dict())
    assert f'of its {total} tensors 2 are missing (e.g. 3.weight) and 7 have another shape' in str(info.value)
    assert 'e.g. 0.weight' in str(info.value)
    check(weights, model(), training=True)  # to start from some of them is no error


def test_names_of_another_model(check):
    weights = {f'backbone.{key}': value for key, value in model().state_dict().items()}
    for training in (False, True):
        with pytest.raises(LaunchError, match=r'some\.pth has none of .* another architecture'):
            check(weights, model(), training)


class Renamed(nn.Conv2d):
    """Takes a weight under its former name, as some of MMDetection's modules do."""

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if f'{prefix}former' in state_dict:
            state_dict[f'{prefix}weight'] = state_dict.pop(f'{prefix}former')
        super()._load_from_state_dict(state_dict, prefix, *args)


def test_former_names(check):
    network = nn.Sequential(Renamed(3, 8, 1, bias=False), nn.Conv2d(8, 8, 1))
    weights = network.state_dict()
    weights['0.former'] = weights.pop('0.weight')
    check(weights, network)
    weights['0.former'] = torch.zeros(2, 3, 1, 1)
    with pytest.raises(LaunchError, match=r'does not fit the model: .*0\.weight.*; take the config'):
        check(weights, network)
    check(weights, network, training=True)
