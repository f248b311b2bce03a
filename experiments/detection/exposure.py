"""Images of different exposures, as photographs are, in the place of images that are all alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import TRANSFORMS, BaseTransform

from .regimes import CONTRASTS, SHIFTS

GREY = 128.0


@TRANSFORMS.register_module()
class VaryExposure(BaseTransform):
    """Change contrast and brightness of each image, always in the same way for the same image.

    Needs ``img`` (H, W, 3), uint8, and ``img_id``; changes ``img``.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw contrast and brightness by the number of the image."""
        random = np.random.default_rng(results['img_id'])
        contrast, shift = random.uniform(*CONTRASTS), random.uniform(*SHIFTS)
        image = GREY + contrast * (results['img'].astype(np.float32) - GREY) + shift
        results['img'] = image.round().clip(0, 255).astype(np.uint8)
        return results
