"""Correction of earlier statistics for the change of the weights, and their average (CBN, eq. 7 to 10).

The paper extrapolates the mean mu and the mean of squares nu to first order. These functions keep the
variance var = nu - mu^2 in place of nu. Nothing is lost: with a step d of the weights, p = d mu / d w and
r = d var / d w = d nu / d w - 2 mu p,

    nu + <q, d> - (mu + <p, d>)^2 = var + <r, d> - <p, d>^2,

the maximum of eq. 10 becomes var >= 0, and eq. 11 reads

    var_bar = mean(var_s) + mean((mu_s - mu_bar)^2),

which, unlike nu_bar - mu_bar^2, does not cancel when means are large.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .derivatives import Derivatives
from .moments import Moments


class PastMoments(NamedTuple):
    """Earlier means and biased variances, both of shape (C, rows); the variances may be below 0."""

    mean: Tensor
    var: Tensor


class PooledMoments(NamedTuple):
    """What a window normalizes by.

    Attributes:
        mean: mu_bar, shape (C,).
        var: var_bar, shape (C,).
        share: Weight of each of the n entries, 1 / n, shape ().
        current: Mean and variance of the current iteration.
    """

    mean: Tensor
    var: Tensor
    share: Tensor
    current: Moments


class PooledDerivatives(NamedTuple):
    """Derivatives of mu_bar and var_bar by today's weights, through the earlier entries.

    Attributes:
        mean: Of mu_bar by the weights, shape (groups, D).
        var: Of var_bar by the weights, shape (C, D).
        mean_by_bias: Of mu_bar by a bias, shape ().
        var_by_bias: Of var_bar by a bias, shape (C,).
    """

    mean: Tensor
    var: Tensor
    mean_by_bias: Tensor
    var_by_bias: Tensor


def project(derivatives: Derivatives, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Multiply rows of derivatives by the weights.

    The difference of two such projections is <p, theta_t - theta_s>, so that no past weights are kept.

    Args:
        derivatives: Of shapes (groups, rows, D) and (C, rows, D), D = C_in / groups * kh * kw.
        weight: The weights theta as (C, D).
        bias: Shape (C,), part of theta: d mu / d b = 1 and d var / d b = 0.

    Returns:
        <d mu / d theta, theta> and <d var / d theta, theta>, both of shape (C, rows).
    """
    channels = weight.size(0)
    grouped = weight.reshape(derivatives.mean.size(0), -1, weight.size(1))
    of_mean = torch.bmm(grouped, derivatives.mean.transpose(1, 2)).reshape(channels, -1)
    # In this order the product is read row by row; the other one takes three times as long on CPUs.
    of_var = torch.bmm(weight[:, None], derivatives.var.transpose(1, 2)).squeeze(1)
    return (of_mean if bias is None else of_mean + bias[:, None]), of_var


def compensate(mean: Tensor, var: Tensor, mean_step: Tensor, var_step: Tensor) -> PastMoments:
    """Carry earlier statistics over to today's weights (CBN, eq. 7 and 8).

    Args:
        mean: Means as they were measured, shape (C, rows).
        var: Biased variances as they were measured, shape (C, rows).
        mean_step: <d mu / d theta, theta_t - theta_s>, shape (C, rows).
        var_step: <d var / d theta, theta_t - theta_s>, shape (C, rows).

    Returns:
        Mean and variance under today's weights. The variance is not yet clamped.
    """
    return PastMoments(mean + mean_step, torch.addcmul(var + var_step, mean_step, mean_step, value=-1))


def pool(current: Moments, past: PastMoments, valid: Tensor) -> PooledMoments:
    """Average the current statistics with the valid earlier ones (CBN, eq. 9 to 11).

    Args:
        current: Mean and biased variance of this iteration.
        past: Those of earlier ones. Rows that are not valid may hold anything; variances are clamped here
            at 0 (the maximum of eq. 10).
        valid: Which of the rows hold an entry, bool, shape (rows,).
    """
    mean, var = current
    share = 1 / (1 + valid.sum()).to(mean.dtype)
    # Differences to the current mean keep the digits that the means have in common.
    invalid = ~valid
    distance = (past.mean - mean[:, None]).masked_fill_(invalid, 0)
    spread = past.var.clamp(min=0).masked_fill_(invalid, 0).addcmul_(distance, distance)
    offset = distance.sum(1) * share
    var_bar = ((var + spread.sum(1)) * share).addcmul_(offset, offset, value=-1)
    return PooledMoments(mean + offset, var_bar.clamp_(min=0), share, current)


def pooled_derivatives(
    pooled: PooledMoments, past: PastMoments, mean_step: Tensor, derivatives: Derivatives, valid: Tensor
) -> PooledDerivatives:
    """Differentiate what :func:`pool` returns through its earlier entries, as functions of today's weights.

    Beyond the paper, where gradients end at the current statistics. With r and p as above and m the step
    <p, d> of an entry's mean, its part of d var_bar / d w is (r - 2 m p) / n where the maximum of eq. 10 did
    not take over, and 2 (mu_s - mu_bar) p / n everywhere.

    Args:
        pooled: From :func:`pool`.
        past: Earlier means and variances under today's weights.
        mean_step: Shape (C, rows), the correction that is part of ``past.mean``.
        derivatives: Of shapes (groups, rows, D) and (C, rows, D), finite also in rows that are not valid.
        valid: Shape (rows,), bool.
    """
    share = pooled.share
    part = valid * share
    free = torch.where(valid & (past.var > 0), share, 0)
    along_mean = torch.where(valid, 2 * share * (past.mean - pooled.mean[:, None]) - 2 * free * mean_step, 0)
    of_mean = torch.einsum('k,gkd->gd', part, derivatives.mean)
    grouped = along_mean.reshape(derivatives.mean.size(0), -1, valid.numel())
    of_var = torch.bmm(grouped, derivatives.mean).reshape(past.mean.size(0), -1)
    of_var += torch.bmm(free[:, None], derivatives.var).squeeze(1)
    return PooledDerivatives(of_mean, of_var, part.sum(), along_mean.sum(1))
