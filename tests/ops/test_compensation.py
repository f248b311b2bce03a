"""The centred form of eq. 7 to 11 against the paper's, term by term."""

import torch

from mmdet_cbn.ops import Derivatives, Moments, PastMoments, compensate, intercepts, pool


def test_compensate_is_the_papers_extrapolation_of_mu_and_nu():
    def randn(*shape):
        return torch.randn(*shape, dtype=torch.float64)

    mean, var, bias, bias_step = randn(5, 3), randn(5, 3).square(), randn(5), randn(5)
    mu_grad, nu_grad, then, now = randn(1, 3, 4), randn(5, 3, 4), randn(5, 4), randn(5, 4)
    mu = mean + (mu_grad * (now - then)[:, None]).sum(2) + bias_step[:, None]
    nu_step = (nu_grad * (now - then)[:, None]).sum(2) + 2 * mean * bias_step[:, None]
    derivatives = Derivatives(mu_grad, nu_grad - 2 * mean[:, :, None] * mu_grad)
    rest = intercepts(PastMoments(mean, var), derivatives, then, bias)
    new_mean, new_var = compensate(mean, rest, derivatives, now, bias + bias_step)
    torch.testing.assert_close(new_mean, mu, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(new_var, var + mean**2 + nu_step - mu**2, rtol=1e-12, atol=1e-12)


def test_pool_is_the_papers_average_with_its_maximum():
    mean, var = torch.randn(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    past_mean = torch.randn(5, 4, dtype=torch.float64)
    past_var = torch.randn(5, 4, dtype=torch.float64)  # about half below zero
    valid = torch.tensor([True, False, True, True])
    past_mean[:, 1] = past_var[:, 1] = 1e6  # whatever the row holds
    mus = [mean, *past_mean[:, valid].T]
    nus = [var + mean**2]
    for m, v in zip(past_mean[:, valid].T, past_var[:, valid].T, strict=True):
        nus.append(torch.maximum(v + m**2, m**2))
    mu_bar, nu_bar = sum(mus) / 4, sum(nus) / 4
    shares = torch.tensor([0.25, 0.25, 0, 0.25, 0.25], dtype=torch.float64)
    result = pool(Moments(mean, var), PastMoments(past_mean, past_var), shares)
    torch.testing.assert_close(result.mean, mu_bar, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(result.var, nu_bar - mu_bar**2, rtol=1e-12, atol=1e-12)
    assert result.share.item() == 0.25


def test_pool_of_nothing_earlier_is_the_batch():
    mean, var = torch.randn(5), torch.rand(5)
    past = PastMoments(torch.randn(5, 2), torch.randn(5, 2))
    result = pool(Moments(mean, var), past, torch.tensor([1.0, 0, 0]))
    assert torch.equal(result.mean, mean)
    assert torch.equal(result.var, var)
    assert result.share == 1
