"""What errors say to a user, recognized by their types, or by their texts where they have none."""

import pytest

pytest.importorskip('mmengine')

import torch
from torch import nn

from mmdet_cbn.launch.explanations import explain
from mmdet_cbn.layers import BatchRenorm2d, CrossIterationBatchNorm2d, pair_conv_norm
from mmdet_cbn.layers.errors import PairingError, SingleValueError

ONE_VALUE = torch.ones(1, 4, 1, 1)


def raised(call, *arguments):
    with pytest.raises((RuntimeError, ValueError)) as info:
        call(*arguments)
    return info.value


def test_layer_without_its_convolution():
    error = raised(CrossIterationBatchNorm2d(4), torch.ones(2, 4, 3, 3))
    assert type(error) is PairingError
    assert (error.norm, error.conv) == (None, None)
    assert explain(error) == str(error)
    assert 'trains without knowing its convolution' in str(error)


def test_layer_behind_something_else():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), CrossIterationBatchNorm2d(4))
    pair_conv_norm(model)
    error = raised(model[1], torch.ones(2, 4, 3, 3))
    assert type(error) is PairingError
    assert (error.norm, error.conv) == ('1', '0')
    assert explain(error) == str(error)
    assert 'got a tensor that is not the output of its convolution 0' in str(error)


def test_one_value_per_channel_in_our_layers_and_in_torch():
    ours, theirs = raised(BatchRenorm2d(4), ONE_VALUE), raised(nn.BatchNorm2d(4), ONE_VALUE)
    assert type(ours) is SingleValueError
    assert type(theirs) is ValueError
    for error in (ours, theirs):
        assert explain(error).startswith(f'{error}: a norm layer got one value per channel; raise the batch')


def test_types_alone_decide_about_our_layers():
    assert explain(PairingError('in other words')) == 'in other words'
    assert 'raise the batch size' in explain(SingleValueError('in other words'))
    assert explain(RuntimeError('norm trains without knowing its convolution')) is None


def test_an_error_of_a_data_loader_worker():
    text = (
        'Caught FileNotFoundError in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n'
        '  File "a.py", line 1, in f\n'
        "FileNotFoundError: [Errno 2] No such file or directory: 'a.jpg'\n"
    )
    assert explain(FileNotFoundError(text)) == 'there is no file a.jpg; put it back, or change the config'
