"""A norm added by the recipe of docs/architecture.md; a plugin: ``pytest -p tests.helpers.toy_norm``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from mmdet_cbn import layers
from mmdet_cbn.layers.stateful_norm import StatefulNorm
from mmdet_cbn.ops import all_finite
from mmdet_cbn.registration import NORM_LAYERS
from tests.helpers.norms import NORMS, Norm


@dataclass(frozen=True)
class ToyStatistics:
    mean: Tensor
    var: Tensor

    def as_batch_norm(self, eps: float) -> dict[str, Tensor]:
        return {'mean': self.mean, 'var': self.var}


class ToyNorm2d(StatefulNorm, _BatchNorm):
    """Normalizes by the running statistics, the current iteration included."""

    arguments = ('strength',)

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        strength: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype)
        self.strength = strength

    def train_forward(self, x: Tensor) -> Tensor:
        if x.numel() == 0:
            return self._empty_output(x)
        used = self._repetition.first_pass(x, self._measure)
        weight, bias = self.weight.to(used.mean), self.bias.to(used.mean)
        out = F.batch_norm(x, used.mean, used.var, weight, bias, eps=self.eps)
        self._repetition.remember(out, used)
        return out

    def _measure(self, x: Tensor) -> ToyStatistics:
        self._require_several_values(x)
        with torch.no_grad():
            batch, moved = self._batch_moments(x)
            used = ToyStatistics(
                self.running_mean.nan_to_num(0, 0, 0).to(batch.mean).lerp(batch.mean, self.momentum),
                self.running_var.nan_to_num(1, 1, 1).to(batch.var).lerp(batch.var, self.momentum),
            )
        if torch.is_grad_enabled():
            positions = x.numel() // x.size(1)
            self._move_running_statistics(batch, positions, all_finite(batch.var), moved)
            self._count()
        return used


layers.ToyNorm2d = ToyNorm2d
NORM_LAYERS['Toy'] = ToyNorm2d
MODELS.register_module('Toy', module=ToyNorm2d)
NORMS['Toy'] = Norm(ToyNorm2d, 'Toy', {'strength': 2.0})
