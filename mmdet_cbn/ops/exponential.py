"""Averages with weights that decay, in which all earlier iterations are one linear function of the weights.

Beyond the papers. Eq. 7 and 8 of CBN make each earlier mean mu_s and mean of squares nu_s a linear function
of today's weights theta, so that any average of them is one such function as well, however many there are.
With weights that decay by 1 - alpha a call, a the weight of the current one among all of them,

    m(theta) = <P, theta> + const       P <- (1 - a) P + a p        p = d mu / d theta
    n(theta) = <Q, theta> + const       Q <- (1 - a) Q + a q        q = d nu / d theta
    mu_bar = a mu + (1 - a) m           nu_bar = a nu + (1 - a) max(n, m^2)

where the maximum is that of eq. 10, taken of the averages. Squares are taken about a centre z, the latest
mu_bar, so that nothing cancels when means are large; a step dz of the centre turns Q into Q - 2 dz P.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from .compensation import PooledDerivatives
from .derivatives import Derivatives
from .moments import Moments


class ExponentialMoments(NamedTuple):
    """What an exponential window normalizes by.

    Attributes:
        mean: mu_bar, shape (C,).
        var: var_bar, shape (C,).
        free_var: var_bar without the maximum, shape (C,).
        share: Weight a of the current iteration, shape ().
        current: Mean and variance of the current iteration.
    """

    mean: Tensor
    var: Tensor
    free_var: Tensor
    share: Tensor
    current: Moments


def pool_exponentially(current: Moments, past: Moments, share: Tensor) -> ExponentialMoments:
    """Average the current statistics with the average of the earlier ones.

    Args:
        current: Mean and biased variance of this iteration.
        past: m and n - m^2 under today's weights, shape (C,) each; the latter may be below 0.
        share: Weight a of the current iteration, shape ().
    """
    mean = past.mean.lerp(current.mean, share)
    # Two groups about their common mean: no cancellation, and for a = 1 just the current one.
    spread = (mean - past.mean, current.mean - mean)
    bounded = torch.stack((past.var.clamp(min=0), past.var)).lerp_(current.var, share).addcmul_(*spread)
    var, free_var = bounded
    return ExponentialMoments(mean, var, free_var, share, current)


def mix_derivatives(past: Derivatives, own: Derivatives, step: Tensor, share: Tensor) -> Derivatives:
    """Take an iteration into P and Q, and move their centre to mu_bar.

    Args:
        past: P of shape (groups, D), and Q of shape (C, D) about the centre z.
        own: Of this iteration's mean, and of its mean of squares about mu_bar.
        step: mu_bar - z, shape (C,).
        share: Weight a of this iteration, shape ().

    Returns:
        P, and Q about mu_bar.
    """
    groups, size = past.mean.shape
    moved = torch.addcmul(
        past.var.view(groups, -1, size), step.view(groups, -1, 1), past.mean[:, None], value=-2
    )
    return Derivatives(past.mean.lerp(own.mean, share), moved.view(-1, size).lerp_(own.var, share))


def exponential_derivatives(
    derivatives: Derivatives,
    pooled: ExponentialMoments,
    past: Moments,
    centre: Tensor,
    measured_mean: Tensor,
) -> PooledDerivatives:
    """Differentiate mu_bar and var_bar through the earlier iterations, as functions of today's weights.

    Args:
        derivatives: P of shape (groups, D), and Q of shape (C, D) about ``centre``.
        pooled: From :func:`pool_exponentially`.
        past: m and n - m^2 under today's weights.
        centre: z, shape (C,).
        measured_mean: Average of the earlier means as measured, shape (C,): d nu_s / d b is 2 mu_s.
    """
    groups, size = derivatives.mean.shape
    rest = 1 - pooled.share
    free = torch.where(past.var > 0, rest, 0)  # where the maximum did not take over
    of_spread = 2 * rest * (past.mean - pooled.mean)
    along_mean = of_spread - 2 * free * (past.mean - centre)
    of_var = (free[:, None] * derivatives.var).view(groups, -1, size)
    of_var.addcmul_(along_mean.view(groups, -1, 1), derivatives.mean[:, None])
    return PooledDerivatives(
        derivatives.mean * rest,
        of_var.view(-1, size),
        rest,
        of_spread + 2 * free * (measured_mean - past.mean),
    )
