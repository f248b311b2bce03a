"""Batch statistics against the definition in float64."""

import math

import pytest
import torch

from mmdet_cbn.ops import all_finite, batch_moments

DTYPES = (torch.float64, torch.float32, torch.bfloat16)


@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize('dtype', [*DTYPES, pytest.param(torch.float16, marks=pytest.mark.float16)])
def test_mean_and_biased_variance(dtype, memory_format):
    x = (torch.randn(3, 5, 40, 41) * 3 + 100).to(dtype).to(memory_format=memory_format)
    mean, var = batch_moments(x)
    exact = x.double()
    assert mean.dtype == var.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(mean.double(), exact.mean((0, 2, 3)), rtol=tolerance, atol=0)
    torch.testing.assert_close(
        var.double(), exact.var((0, 2, 3), unbiased=False), rtol=10 * tolerance, atol=0
    )


def test_one_position():
    mean, var = batch_moments(torch.tensor([[[[3.0]], [[-1.0]]]]))
    assert mean.tolist() == [3.0, -1.0]
    assert var.tolist() == [0.0, 0.0]


@pytest.mark.parametrize('dtype', [*DTYPES, torch.float16])
@pytest.mark.parametrize('shape', [(), (1,), (2, 7), (512, 1, 4), (3000,)])
def test_all_finite_is_what_each_value_says(shape, dtype):
    limits = torch.finfo(dtype)
    for value in (math.nan, math.inf, -math.inf, limits.max, limits.min, limits.tiny, 0.0):
        size = math.prod(shape)
        for place in {0, size // 2, size - 1}:
            values = torch.randn(shape).to(dtype)
            values.view(-1)[place] = value
            answer = all_finite(values)
            assert (answer.shape, answer.dtype) == ((), torch.bool)
            assert answer.item() == math.isfinite(value)
