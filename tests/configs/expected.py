"""What every COCO config must contain, read off the papers and written down apart from the configs.

A row names a config by its file name without the ending that its recipe gives it. Its columns:

    detector   a key of DETECTORS
    R          depth of its ResNet
    backbone, FPN, box, mask
               norm of the part, a key of NORMS; - where the part has none, . where there is no such part.
               For RetinaNet, box is its only head
    head       convolutions and fully connected layers of the box head, or of each RetinaNet branch
    fix        MMDetection's frozen_stages
    eval       MMDetection's norm_eval of the backbone
    weights    pre-trained weights of the backbone, a key of WEIGHTS; - from scratch
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """How a config trains; all of them with SGD, momentum 0.9, weight decay 1e-4."""

    ending: str
    gpus: int
    images_per_gpu: int
    epochs: int
    milestones: tuple[int, int]
    learning_rate: float  # for 16 images
    warmup_from: float  # share of the learning rate; linear, over 500 iterations
    clip: float | None


@dataclass(frozen=True)
class Weights:
    """A backbone to start from, and the images on which it was trained."""

    checkpoint: str
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    bgr_to_rgb: bool = True


@dataclass(frozen=True)
class Norm:
    """A norm with its arguments, and the convolution that goes with it."""

    type: str
    arguments: dict[str, int]
    conv: str | None = None


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    recipe: Recipe
    detector: str
    depth: int
    norms: dict[str, Norm | None]
    head: str
    frozen_stages: int
    norm_eval: bool
    weights: Weights | None


NORMS = {
    'BN': Norm('BN', {}),
    'SyncBN': Norm('SyncBN', {}),
    'GN': Norm('GN', {'num_groups': 32}),
    'BRN': Norm('BRN', {}),
    'CBN': Norm('CBN', {'window_size': 4}),
    'NaiveCBN': Norm('NaiveCBN', {'window_size': 4}),
    'MABN16': Norm('MABN', {'buffer_size': 16}, 'CenConv2d'),
    'MABN32': Norm('MABN', {'buffer_size': 32}, 'CenConv2d'),
    'MABN32w': Norm('MABN', {'buffer_size': 32, 'warmup_iters': 10_000}, 'CenConv2d'),
    '-': None,
}

WEIGHTS = {
    'r50': Weights('torchvision://resnet50'),
    'r101': Weights('torchvision://resnet101'),
    'r50-gn': Weights(
        'open-mmlab://detectron/resnet50_gn', (103.53, 116.28, 123.675), (1.0, 1.0, 1.0), bgr_to_rgb=False
    ),
    'R50-wc': Weights(
        'checkpoints/R50-wc_mmdet3.pth', (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0), bgr_to_rgb=False
    ),
    '-': None,
}

DETECTORS = {'Faster': 'FasterRCNN', 'Mask': 'MaskRCNN', 'Retina': 'RetinaNet'}

CBN_PAPER = Recipe(
    '4xb4-1x_coco',
    gpus=4,
    images_per_gpu=4,
    epochs=12,
    milestones=(8, 11),
    learning_rate=0.02,
    warmup_from=1 / 3,
    clip=35,
)
MABN_PAPER = Recipe(
    '8xb2-2x_coco',
    gpus=8,
    images_per_gpu=2,
    epochs=24,
    milestones=(16, 22),
    learning_rate=0.02,
    warmup_from=0.001,
    clip=None,
)
MABN_PAPER_RETINANET = Recipe(
    '8xb2-2x_coco',
    gpus=8,
    images_per_gpu=2,
    epochs=24,
    milestones=(16, 22),
    learning_rate=0.01,
    warmup_from=0.001,
    clip=None,
)

TABLES = {
    ('baselines', CBN_PAPER): """
name                                    detector R   backbone FPN    box    mask   head fix eval weights
faster-rcnn_r50_fpn_4conv1fc            Faster   50  BN       -      -      .      4c1f 1   yes  r50
faster-rcnn_r50_fpn_4conv1fc_bn         Faster   50  BN       BN     BN     .      4c1f 1   yes  r50
faster-rcnn_r50_fpn_4conv1fc_syncbn     Faster   50  BN       SyncBN SyncBN .      4c1f 1   yes  r50
faster-rcnn_r50_fpn_4conv1fc_gn         Faster   50  BN       GN     GN     .      4c1f 1   yes  r50
faster-rcnn_r50_fpn_4conv1fc_brn        Faster   50  BN       BRN    BRN    .      4c1f 1   yes  r50
faster-rcnn_r50_fpn_4conv1fc_bn-all     Faster   50  BN       BN     BN     .      4c1f 1   no   r50
faster-rcnn_r50_fpn_4conv1fc_syncbn-all Faster   50  SyncBN   SyncBN SyncBN .      4c1f 1   no   r50
faster-rcnn_r50_fpn_4conv1fc_gn-all     Faster   50  GN       GN     GN     .      4c1f 1   no   r50-gn
faster-rcnn_r101_fpn_4conv1fc_syncbn    Faster   101 BN       SyncBN SyncBN .      4c1f 1   yes  r101
faster-rcnn_r101_fpn_4conv1fc_gn        Faster   101 BN       GN     GN     .      4c1f 1   yes  r101
mask-rcnn_r50_fpn_4conv1fc              Mask     50  BN       -      -      -      4c1f 1   yes  r50
mask-rcnn_r50_fpn_4conv1fc_syncbn       Mask     50  BN       SyncBN SyncBN SyncBN 4c1f 1   yes  r50
mask-rcnn_r50_fpn_4conv1fc_gn           Mask     50  BN       GN     GN     GN     4c1f 1   yes  r50
mask-rcnn_r50_fpn_4conv1fc_brn          Mask     50  BN       BRN    BRN    BRN    4c1f 1   yes  r50
mask-rcnn_r101_fpn_4conv1fc_syncbn      Mask     101 BN       SyncBN SyncBN SyncBN 4c1f 1   yes  r101
mask-rcnn_r101_fpn_4conv1fc_gn          Mask     101 BN       GN     GN     GN     4c1f 1   yes  r101
""",
    ('cbn', CBN_PAPER): """
name                                   detector R   backbone FPN      box      mask     head fix eval weights
faster-rcnn_r50_fpn_4conv1fc_cbn       Faster   50  BN       CBN      CBN      .        4c1f 1   yes  r50
faster-rcnn_r50_fpn_4conv1fc_cbn-all   Faster   50  CBN      CBN      CBN      .        4c1f 1   no   r50
faster-rcnn_r50_fpn_4conv1fc_naive-cbn Faster   50  BN       NaiveCBN NaiveCBN .        4c1f 1   yes  r50
faster-rcnn_r101_fpn_4conv1fc_cbn      Faster   101 BN       CBN      CBN      .        4c1f 1   yes  r101
mask-rcnn_r50_fpn_4conv1fc_cbn         Mask     50  BN       CBN      CBN      CBN      4c1f 1   yes  r50
mask-rcnn_r50_fpn_4conv1fc_naive-cbn   Mask     50  BN       NaiveCBN NaiveCBN NaiveCBN 4c1f 1   yes  r50
mask-rcnn_r101_fpn_4conv1fc_cbn        Mask     101 BN       CBN      CBN      CBN      4c1f 1   yes  r101
""",
    ('mabn', CBN_PAPER): """
name                              detector R  backbone FPN    box    mask   head fix eval weights
faster-rcnn_r50_fpn_4conv1fc_mabn Faster   50 BN       MABN16 MABN16 .      4c1f 1   yes  r50
mask-rcnn_r50_fpn_4conv1fc_mabn   Mask     50 BN       MABN16 MABN16 MABN16 4c1f 1   yes  r50
""",
    ('baselines', MABN_PAPER): """
name                                          detector R  backbone FPN    box    mask   head fix eval weights
mask-rcnn_r50-scratch_fpn_bn                  Mask     50 BN       -      -      -      0c2f -1  no   -
mask-rcnn_r50-scratch_fpn_brn                 Mask     50 BRN      -      -      -      0c2f -1  no   -
mask-rcnn_r50-scratch_fpn_syncbn              Mask     50 SyncBN   -      -      -      0c2f -1  no   -
mask-rcnn_r50-scratch_fpn_4conv1fc_bn-all     Mask     50 BN       BN     BN     BN     4c1f -1  no   -
mask-rcnn_r50-scratch_fpn_4conv1fc_brn-all    Mask     50 BRN      BRN    BRN    BRN    4c1f -1  no   -
mask-rcnn_r50-scratch_fpn_4conv1fc_syncbn-all Mask     50 SyncBN   SyncBN SyncBN SyncBN 4c1f -1  no   -
mask-rcnn_r50_fpn_4conv1fc_syncbn-all         Mask     50 SyncBN   SyncBN SyncBN SyncBN 4c1f -1  no   r50
""",
    ('mabn', MABN_PAPER): """
name                                        detector R  backbone FPN    box     mask    head fix eval weights
mask-rcnn_r50-scratch_fpn_mabn              Mask     50 MABN16   -      -       -       0c2f -1  no   -
mask-rcnn_r50-scratch_fpn_4conv1fc_mabn-all Mask     50 MABN32   MABN32 MABN32w MABN32w 4c1f -1  no   -
mask-rcnn_r50_fpn_4conv1fc_mabn-all         Mask     50 MABN32   MABN32 MABN32  MABN32  4c1f -1  no   R50-wc
""",
    ('baselines', MABN_PAPER_RETINANET): """
name                                 detector R  backbone FPN    box    mask head fix eval weights
retinanet_r50-scratch_fpn_syncbn-all Retina   50 SyncBN   SyncBN SyncBN .    4c   -1  no   -
""",
    ('mabn', MABN_PAPER_RETINANET): """
name                               detector R  backbone FPN    box    mask head fix eval weights
retinanet_r50-scratch_fpn_mabn-all Retina   50 MABN16   MABN16 MABN16 .    4c   -1  no   -
""",
}


def _rows() -> dict[str, Row]:
    rows = {}
    for (folder, recipe), table in TABLES.items():
        for line in table.strip().splitlines()[1:]:
            name, detector, depth, *parts, head, frozen, norm_eval, weights = line.split()
            named = zip(('backbone', 'neck', 'box', 'mask'), parts, strict=True)
            rows[f'{folder}/{name}_{recipe.ending}'] = Row(
                recipe=recipe,
                detector=DETECTORS[detector],
                depth=int(depth),
                norms={part: NORMS[norm] for part, norm in named if norm != '.'},
                head=head,
                frozen_stages=int(frozen),
                norm_eval={'yes': True, 'no': False}[norm_eval],
                weights=WEIGHTS[weights],
            )
    return rows


ROWS = _rows()
