"""What the detectors of the papers' authors have and MMDetection 3 lacks.

A config of theirs names this module in ``custom_imports``: ``mmdet_cbn`` itself does not import MMDetection's
models.
"""

from __future__ import annotations

from typing import Any

from mmdet.models.necks import FPN
from mmdet.models.task_modules.coders import LegacyDeltaXYWHBBoxCoder
from mmdet.registry import MODELS, TASK_UTILS
from torch import Tensor, nn


@MODELS.register_module()
class PlainTopFPN(FPN):
    """FPN whose extra levels (P6 and P7 of RetinaNet) are plain convolutions with a bias.

    MMDetection gives them ``norm_cfg`` and ``conv_cfg`` of the other levels, maskrcnn-benchmark does not.
    Arguments, by their names, shapes and names of parameters are those of ``FPN``.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        plain = FPN(**{**settings, 'conv_cfg': None, 'norm_cfg': None})
        levels = len(self.lateral_convs)
        self.fpn_convs: nn.ModuleList = self.fpn_convs[:levels] + plain.fpn_convs[levels:]


@TASK_UTILS.register_module()
class WholePixelBoxCoder(LegacyDeltaXYWHBBoxCoder):
    """Box regression of boxes that are x2 - x1 + 1 wide, in both directions.

    MMDetection 3's ``LegacyDeltaXYWHBBoxCoder`` encodes such boxes, but leaves out half a pixel on each side
    when it decodes. That suits old checkpoints under its evaluation, where a box is x2 - x1 wide; a model
    that is trained with it would learn boxes that are a pixel too wide. The arguments are the same.
    """

    def decode(
        self,
        bboxes: Tensor,
        pred_bboxes: Tensor,
        max_shape: tuple[int, ...] | None = None,
        wh_ratio_clip: float = 16 / 1000,
    ) -> Tensor:
        """Apply box regression.

        Args:
            bboxes: Boxes to start from, shape (N, 4).
            pred_bboxes: Regression, shape (N, 4) or (N, 4 * classes).
            max_shape: Height and width of the image, to which boxes are cut; None does not cut them.
            wh_ratio_clip: The least ratio of an old and a new side.

        Returns:
            Boxes, of the shape of ``pred_bboxes``.
        """
        decoded = super().decode(bboxes, pred_bboxes, None, wh_ratio_clip)
        boxes = decoded.view(len(decoded), decoded.shape[1] // 4, 4)
        boxes = boxes + boxes.new_tensor([0.5, 0.5, -0.5, -0.5])
        if max_shape is not None:
            height, width = max_shape[:2]
            boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))
        return boxes.view_as(decoded)
