"""Correction of earlier statistics for the change of the weights, and their average (CBN, eq. 7 to 10).

The paper extrapolates the mean mu and the mean of squares nu to first order. These functions keep the
variance var = nu - mu^2 in place of nu. Nothing is lost: with a step d of the weights, p = d mu / d w and
r = d var / d w = d nu / d w - 2 mu p,

    nu + <q, d> - (mu + <p, d>)^2 = var + <r, d> - <p, d>^2,

the maximum of eq. 10 becomes var >= 0, and eq. 11 reads

    var_bar = mean(var_s) + mean((mu_s - mu_bar)^2),

which, unlike nu_bar - mu_bar^2, does not cancel when means are large.
"""

import torch
from torch import Tensor


def project(
    mean_derivative: Tensor, variance_derivative: Tensor, weight: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Multiply rows of derivatives by the weights.

    The difference of two such projections is <p, theta_t - theta_s>, so that no past weights are kept.

    Args:
        mean_derivative: Shape (groups, rows, D), D = C_in / groups * kh * kw.
        variance_derivative: Shape (C, rows, D).
        weight: The weights theta as (C, D).
        bias: Shape (C,), part of theta: d mu / d b = 1 and d var / d b = 0.

    Returns:
        <d mu / d theta, theta> and <d var / d theta, theta>, both of shape (C, rows).
    """
    channels = weight.size(0)
    grouped = weight.reshape(mean_derivative.size(0), -1, weight.size(1))
    of_mean = torch.bmm(grouped, mean_derivative.transpose(1, 2)).reshape(channels, -1)
    # In this order the product is read row by row; the other one takes three times as long on CPUs.
    of_var = torch.bmm(weight[:, None], variance_derivative.transpose(1, 2)).squeeze(1)
    return (of_mean if bias is None else of_mean + bias[:, None]), of_var


def compensate(mean: Tensor, var: Tensor, mean_step: Tensor, var_step: Tensor) -> tuple[Tensor, Tensor]:
    """Carry earlier statistics over to today's weights (CBN, eq. 7 and 8).

    Args:
        mean: Means as they were measured, shape (C, rows).
        var: Biased variances as they were measured, shape (C, rows).
        mean_step: <d mu / d theta, theta_t - theta_s>, shape (C, rows).
        var_step: <d var / d theta, theta_t - theta_s>, shape (C, rows).

    Returns:
        Mean and variance under today's weights, shape (C, rows). The variance is not yet clamped.
    """
    return mean + mean_step, torch.addcmul(var + var_step, mean_step, mean_step, value=-1)


def pool(
    mean: Tensor, var: Tensor, past_mean: Tensor, past_var: Tensor, valid: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Average the current statistics with the valid earlier ones (CBN, eq. 9 to 11).

    Args:
        mean: Current mean, shape (C,).
        var: Current biased variance, shape (C,).
        past_mean: Earlier means, shape (C, rows). Rows that are not valid may hold anything.
        past_var: Earlier variances, shape (C, rows), clamped here at 0 (the maximum of eq. 10).
        valid: Which of the rows hold an entry, bool, shape (rows,).

    Returns:
        mu_bar and var_bar of shape (C,), and the weight 1 / n of each of the n entries, shape ().
    """
    share = 1 / (1 + valid.sum()).to(mean.dtype)
    # Differences to the current mean keep the digits that the means have in common.
    invalid = ~valid
    distance = (past_mean - mean[:, None]).masked_fill_(invalid, 0)
    spread = past_var.clamp(min=0).masked_fill_(invalid, 0).addcmul_(distance, distance)
    offset = distance.sum(1) * share
    var_bar = ((var + spread.sum(1)) * share).addcmul_(offset, offset, value=-1)
    return mean + offset, var_bar.clamp_(min=0), share


def pooled_derivatives(
    mean_bar: Tensor,
    share: Tensor,
    past_mean: Tensor,
    past_var: Tensor,
    mean_step: Tensor,
    mean_derivative: Tensor,
    variance_derivative: Tensor,
    valid: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Differentiate what :func:`pool` returns through its earlier entries, as functions of today's weights.

    Beyond the paper, where gradients end at the current statistics. With r and p as above and m the step
    <p, d> of an entry's mean, its part of d var_bar / d w is (r - 2 m p) / n where the maximum of eq. 10 did
    not take over, and 2 (mu_s - mu_bar) p / n everywhere.

    Args:
        mean_bar: Shape (C,), from :func:`pool`, like ``share``.
        share: Shape ().
        past_mean: Earlier means under today's weights, shape (C, rows).
        past_var: Earlier variances under today's weights, not clamped, shape (C, rows).
        mean_step: Shape (C, rows), the correction that is part of ``past_mean``.
        mean_derivative: Shape (groups, rows, D), finite also in rows that are not valid.
        variance_derivative: Shape (C, rows, D), likewise.
        valid: Shape (rows,), bool.

    Returns:
        d mean_bar / d w of shape (groups, D), d var_bar / d w of shape (C, D), and the same for a bias: of
        shapes () and (C,).
    """
    part = valid * share
    free = torch.where(valid & (past_var > 0), share, 0)
    along_mean = torch.where(valid, 2 * share * (past_mean - mean_bar[:, None]) - 2 * free * mean_step, 0)
    of_mean = torch.einsum('k,gkd->gd', part, mean_derivative)
    grouped = along_mean.reshape(mean_derivative.size(0), -1, valid.numel())
    of_var = torch.bmm(grouped, mean_derivative).reshape(past_mean.size(0), -1)
    of_var += torch.bmm(free[:, None], variance_derivative).squeeze(1)
    return of_mean, of_var, part.sum(), along_mean.sum(1)
