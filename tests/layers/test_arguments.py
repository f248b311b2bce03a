"""Wrong arguments end in a ValueError that names the argument and its value."""

import pytest
import torch

from mmdet_cbn.layers import (
    BatchRenorm2d,
    CrossIterationBatchNorm2d,
    MovingAverageBatchNorm2d,
    NaiveCrossIterationBatchNorm2d,
)

CBN, NAIVE = CrossIterationBatchNorm2d, NaiveCrossIterationBatchNorm2d
MABN, BRN = MovingAverageBatchNorm2d, BatchRenorm2d
WRONG = [
    *((kind, {'window_size': value}) for kind in (CBN, NAIVE) for value in (0, -1, 2.0, '4', None, True)),
    *((kind, {'burn_in': value}) for kind in (CBN, NAIVE) for value in (-1, 1.5, '3')),
    *((kind, {'momentum': value}) for kind in (CBN, NAIVE, MABN, BRN) for value in (-0.1, 1.1, 'x')),
    *((kind, {'eps': value}) for kind in (CBN, MABN, BRN) for value in (-1e-5, '1e-5')),
    *((kind, {'num_features': 0}) for kind in (CBN, NAIVE, MABN, BRN)),
    *((MABN, {'buffer_size': value}) for value in (0, -2, 1.0)),
    *((MABN, {'warmup_iters': value}) for value in (-1, 0.5)),
    *((kind, {'r_max': value}) for kind in (MABN, BRN) for value in (0.9, float('nan'))),
    *((CBN, {'derivative_fraction': value}) for value in (0, 1.5, '1/8', float('nan'))),
    (CBN, {'window_gradient': 1}),
    (BRN, {'d_max': -1}),
    (BRN, {'warmup_iters': -1}),
]


@pytest.mark.parametrize(('kind', 'wrong'), WRONG)
def test_message_names_argument_and_value(kind, wrong):
    (name, value), *_ = wrong.items()
    with pytest.raises(ValueError, match=name) as error:
        kind(**{'num_features': 8, **wrong})
    assert repr(value) in str(error.value)


@pytest.mark.parametrize(
    ('kind', 'name'),
    [*((kind, 'windw_size') for kind in (CBN, NAIVE, MABN, BRN)), (NAIVE, 'window_gradient')],
)
def test_an_argument_that_does_not_exist_is_named(kind, name):
    with pytest.raises(TypeError, match=rf"unexpected keyword argument '{name}'"):
        kind(8, **{name: 4})


@pytest.mark.parametrize('kind', [CBN, NAIVE, MABN, BRN])
def test_input_must_have_four_dimensions(kind):
    with pytest.raises(ValueError, match=r'expected 4D input \(got 3D input\)'):
        kind(4)(torch.randn(2, 4, 5))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('kind', [CBN, NAIVE, MABN, BRN])
def test_input_must_have_the_channels_of_the_layer(kind, training):
    with pytest.raises(ValueError, match=r'num_features=4, got an input of shape \(2, 6, 5, 5\)'):
        kind(4).train(training)(torch.randn(2, 6, 5, 5))


@pytest.mark.parametrize('kind', [CBN, NAIVE, MABN, BRN])
def test_repr_shows_the_arguments(kind):
    layer = kind(4)
    for name in kind.arguments:
        assert f'{name}={getattr(layer, name)}' in repr(layer)
