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
from .torch_private import products_are_exact


class PastMoments(NamedTuple):
    """Earlier means and biased variances, both of shape (C, rows); the variances may be below 0."""

    mean: Tensor
    var: Tensor


class PooledMoments(NamedTuple):
    """What a window normalizes by.

    Attributes:
        mean: mu_bar, shape (C,).
        var: var_bar, shape (C,).
        shares: Weights of the current iteration and of each row, shape (1 + rows,).
        current: Mean and variance of the current iteration.
    """

    mean: Tensor
    var: Tensor
    shares: Tensor
    current: Moments

    @property
    def share(self) -> Tensor:
        """Weight of the current iteration, shape ()."""
        return self.shares[0]


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


def intercepts(
    moments: PastMoments, derivatives: Derivatives, weight: Tensor, bias: Tensor | None = None
) -> PastMoments:
    """Return mean and variance less their derivatives times the weights.

    What :func:`compensate` adds today's product to, so that no past weights are kept.

    Args:
        moments: As they were measured, each of shape (C, rows).
        derivatives: Of shapes (groups, rows, D) and (C, rows, D), D = C_in / groups * kh * kw.
        weight: The weights theta_s as (C, D) that they were measured at.
        bias: Shape (C,), part of theta: d mu / d b = 1 and d var / d b = 0.
    """
    return _add_products(moments, derivatives, weight, bias, -1)


def compensate(
    mean: Tensor,
    intercepts: PastMoments,
    derivatives: Derivatives,
    weight: Tensor,
    bias: Tensor | None = None,
) -> PastMoments:
    """Carry earlier statistics over to today's weights (CBN, eq. 7 and 8).

    Args:
        mean: Means as they were measured, shape (C, rows).
        intercepts: What :func:`intercepts` returned, each of shape (C, rows).
        derivatives: Of shapes (groups, rows, D) and (C, rows, D).
        weight: Today's weights theta_t as (C, D).
        bias: Shape (C,).

    Returns:
        Mean and variance under today's weights. The variance is not yet clamped.
    """
    today = _add_products(intercepts, derivatives, weight, bias, 1)
    step = today.mean - mean
    return PastMoments(today.mean, today.var.addcmul_(step, step, value=-1))


def _add_products(
    moments: PastMoments, derivatives: Derivatives, weight: Tensor, bias: Tensor | None, sign: int
) -> PastMoments:
    mean, var = (
        _add_product(moment, rows, weight, sign) for moment, rows in zip(moments, derivatives, strict=True)
    )
    return PastMoments(mean if bias is None else mean.add_(bias[:, None], alpha=sign), var)


def _add_product(moment: Tensor, rows: Tensor, weight: Tensor, sign: int) -> Tensor:
    """Return ``moment + sign * <rows, weight>``, shape (C, rows), for rows (C or groups, rows, D)."""
    grouped = weight.reshape(rows.size(0), -1, weight.size(1))
    moment = moment.reshape(rows.size(0), -1, rows.size(1))
    if products_are_exact(weight):
        # In this order the product is read row by row; the other one takes three times as long on CPUs.
        sums = torch.baddbmm(moment, grouped, rows.transpose(1, 2), alpha=sign)
    else:
        # The difference of two products, which is what compensation is, would have no digits left.
        sums = moment.add((grouped[:, :, None] * rows[:, None]).sum(3), alpha=sign)
    return sums.reshape(-1, rows.size(1))


def pool(current: Moments, past: PastMoments, shares: Tensor) -> PooledMoments:
    """Average the current statistics with earlier ones (CBN, eq. 9 to 11).

    Args:
        current: Mean and biased variance of this iteration.
        past: Those of earlier ones. Where their share is 0, they and their squares are finite. Variances are
            clamped here at 0 (the maximum of eq. 10).
        shares: Weights of the current iteration and of each row, sum 1, shape (1 + rows,).
    """
    mean, var = current
    share, of_rows = shares[0], shares[1:]
    # Differences to the current mean keep the digits that the means have in common.
    distance = past.mean - mean[:, None]
    offset = distance @ of_rows
    spread = past.var.clamp(min=0).addcmul_(distance, distance)
    # Not below 0: the mean of squares is at least offset^2 / (1 - share).
    var_bar = torch.addmv(var * share, spread, of_rows).addcmul_(offset, offset, value=-1)
    return PooledMoments(mean + offset, var_bar, shares, current)


def pooled_derivatives(
    pooled: PooledMoments, past: PastMoments, mean_step: Tensor, derivatives: Derivatives
) -> PooledDerivatives:
    """Differentiate what :func:`pool` returns through its earlier entries, as functions of today's weights.

    Beyond the paper, where gradients end at the current statistics. With r and p as above, a the share of an
    entry and m the step <p, d> of its mean, its part of d var_bar / d w is a (r - 2 m p) where the maximum of
    eq. 10 did not take over, and 2 a (mu_s - mu_bar) p everywhere.

    Args:
        pooled: From :func:`pool`.
        past: Earlier means and variances under today's weights.
        mean_step: Shape (C, rows), the correction that is part of ``past.mean``.
        derivatives: Of shapes (groups, rows, D) and (C, rows, D), finite also where the share is 0.
    """
    shares, groups = pooled.shares[1:], derivatives.mean.size(0)
    free = torch.where(past.var > 0, shares, 0)
    half_along_mean = ((past.mean - pooled.mean[:, None]) * shares).addcmul_(free, mean_step, value=-1)
    of_mean = torch.einsum('k,gkd->gd', shares, derivatives.mean)
    of_var = torch.bmm(free[:, None], derivatives.var).view(groups, -1, derivatives.var.size(2))
    of_var.baddbmm_(half_along_mean.view(groups, -1, shares.numel()), derivatives.mean, alpha=2)
    return PooledDerivatives(
        of_mean, of_var.view(past.mean.size(0), -1), shares.sum(), 2 * half_along_mean.sum(1)
    )
