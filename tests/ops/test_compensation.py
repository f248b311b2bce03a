"""The centred form of eq. 7 to 11 against the paper's, term by term."""

import torch

from mmdet_cbn.ops import Moments, PastMoments, compensate, pool


def test_compensate_is_the_papers_extrapolation_of_mu_and_nu():
    mean, var = torch.randn(5, 3, dtype=torch.float64), torch.rand(5, 3, dtype=torch.float64)
    mu_step, nu_step = torch.randn(2, 5, 3, dtype=torch.float64)
    mu, nu = mean + mu_step, (var + mean**2) + nu_step
    new_mean, new_var = compensate(mean, var, mu_step, nu_step - 2 * mean * mu_step)
    torch.testing.assert_close(new_mean, mu, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new_var, nu - mu**2, rtol=1e-12, atol=1e-12)


def test_pool_is_the_papers_average_with_its_maximum():
    mean, var = torch.randn(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    past_mean = torch.randn(5, 4, dtype=torch.float64)
    past_var = torch.randn(5, 4, dtype=torch.float64)  # about half below zero
    valid = torch.tensor([True, False, True, True])
    past_mean[:, 1] = past_var[:, 1] = float('nan')
    mus = [mean, *past_mean[:, valid].T]
    nus = [var + mean**2]
    for m, v in zip(past_mean[:, valid].T, past_var[:, valid].T, strict=True):
        nus.append(torch.maximum(v + m**2, m**2))
    mu_bar, nu_bar = sum(mus) / 4, sum(nus) / 4
    result = pool(Moments(mean, var), PastMoments(past_mean, past_var), valid)
    torch.testing.assert_close(result[0], mu_bar, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result[1], nu_bar - mu_bar**2, rtol=1e-12, atol=1e-12)
    assert result[2].item() == 0.25


def test_pool_of_nothing_earlier_is_the_batch():
    mean, var = torch.randn(5), torch.rand(5)
    past = PastMoments(torch.randn(5, 2), torch.randn(5, 2))
    result = pool(Moments(mean, var), past, torch.tensor([False, False]))
    assert torch.equal(result[0], mean)
    assert torch.equal(result[1], var)
    assert result[2] == 1
