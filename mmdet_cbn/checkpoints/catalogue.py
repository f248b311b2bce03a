"""What the authors of CBN and MABN released, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReleasedModel:
    """A checkpoint that the authors of one of the papers put on the web.

    Args:
        name: Its name here; the file is kept as ``{name}.pth``.
        file_id: Google Drive id; None where only a person with a browser gets the file.
        page: Web page of the file; made from ``file_id`` when there is one.
        elsewhere: Where else to look for it, should the page be gone or over its quota.
        config: Config under which the converted file gives the published AP.
        box_ap: Box AP on COCO val 2017 that the authors' repository prints, in percent.
        mask_ap: Mask AP, likewise; None without a mask head.
    """

    name: str
    file_id: str | None = None
    page: str | None = None
    elsewhere: str | None = None
    config: str | None = None
    box_ap: float | None = None
    mask_ap: float | None = None

    @property
    def filename(self) -> str:
        """File name of the checkpoint as released."""
        return f'{self.name}.pth'

    @property
    def converted_filename(self) -> str:
        """File name of the checkpoint after conversion."""
        return f'{self.name}_mmdet3.pth'


def _detector(name: str, file_id: str, box_ap: float, mask_ap: float | None = None) -> ReleasedModel:
    return ReleasedModel(
        name=name,
        file_id=file_id,
        page=f'https://drive.google.com/file/d/{file_id}/view',
        elsewhere='the links and issues of https://github.com/Howal/Cross-iterationBatchNorm',
        config=f'configs/released/{name}_4xb4-1x_coco.py',
        box_ap=box_ap,
        mask_ap=mask_ap,
    )


CATALOGUE: dict[str, ReleasedModel] = {
    model.name: model
    for model in (
        _detector('faster-rcnn_r50_fpn_4conv1fc', '1BVAFDjJXLDdDX6F0WscvFbnCXY37uZUp', 36.8),
        _detector('faster-rcnn_r50_fpn_4conv1fc_syncbn', '1I0EdPYUUUJfCNb_HMc_EJqD4WsZAeXK1', 37.5),
        _detector('faster-rcnn_r50_fpn_4conv1fc_gn', '1SnGdTSFN0cY6zYiYxdKCZXCronFLJZhp', 37.7),
        _detector('faster-rcnn_r50_fpn_4conv1fc_cbn', '17tIX0hZVPisJpMpsHRlT86ik8DrIV4XG', 37.6),
        _detector('mask-rcnn_r50_fpn_4conv1fc', '1YyjL4nLnRvc0VnEN6741av6pjoCYz3va', 37.6, 34.0),
        _detector('mask-rcnn_r50_fpn_4conv1fc_syncbn', '1w5fzfpItoXGgE8CkuY_hniPhlDpa4I17', 38.5, 34.3),
        _detector('mask-rcnn_r50_fpn_4conv1fc_gn', '1BTrHh-4Xohhs3JuZaTYbJzegJ4SV01qx', 38.5, 35.0),
        _detector('mask-rcnn_r50_fpn_4conv1fc_cbn', '1qMxyW8RDJt-LxuNhMj_waK482WDvpddo', 38.4, 34.7),
        ReleasedModel(
            name='R50-wc',
            page='https://www.dropbox.com/sh/fbsi6935vmatbi9/AAA2jv0EBcSgySTgZnNZ3lmPa?dl=0',
            elsewhere='https://pan.baidu.com/s/1Md_UzwWEiZZKu84R0yZ6aw (password zww2), and the links and '
            'issues of https://github.com/megvii-model/MABN',
        ),
    )
}
"""The released checkpoints by name: CBN's eight detectors, and MABN's ImageNet backbone R50-wc."""
