"""What every COCO config must contain, written down apart from the configs.

Norms, schedules and settings are those of the papers' tables and, where a paper is silent, of the authors'
code: Howal/Cross-iterationBatchNorm at f6d3530 (a fork of MMDetection 0.6) and megvii-model/MABN at 995e8f5
(a fork of maskrcnn-benchmark).

A row names a config by its file name without the ending that its recipe gives it. Its columns:

    detector   a key of DETECTORS
    R          depth of its ResNet
    backbone, FPN, box, mask
               norm of the part, a key of NORMS; - where the part has none, . where there is no such part.
               For RetinaNet, box is its only head
    head       convolutions and fully connected layers of the box head, or of each RetinaNet branch
    fix        MMDetection's frozen_stages
    eval       MMDetection's norm_eval of the backbone
    weights    what the backbone starts from, a key of WEIGHTS; - from scratch
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Detector:
    """How a detector of the authors trains and tests, where MMDetection 3 would do otherwise.

    What all of them share stands in the test: losses, samplers, geometry.
    """

    proposals_in_training: tuple[int, int]  # of each level before NMS, of an image after it
    proposals_in_test: tuple[int, int]
    low_quality_matches: bool  # in the RoI stage: an object has first claim to its best RoI


@dataclass(frozen=True)
class Recipe:
    """How a config trains; all of them with SGD, momentum 0.9, weight decay 1e-4, on gamma as well.

    The learning rate rises over 500 iterations from a third, and is divided by 10 at each milestone.
    """

    ending: str
    gpus: int
    images_per_gpu: int
    length: int
    unit: str  # of length and milestones: epochs or iterations
    milestones: tuple[int, int]
    learning_rate: float
    bias_factor: float  # learning rate of biases and beta, beside that of weights and gamma
    bias_decay: float
    clip: float | None
    detector: Detector | None  # None for RetinaNet


@dataclass(frozen=True)
class Weights:
    """What a backbone starts from, the images that it sees, and where its strides are."""

    checkpoint: str | None
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    bgr_to_rgb: bool = True
    stride_in: str = '3x3'


@dataclass(frozen=True)
class Norm:
    """A norm with its arguments, and the convolution that goes with it."""

    type: str
    arguments: dict[str, float]
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
    weights: Weights


NORMS = {
    'BN': Norm('BN', {}),
    'SyncBN': Norm('SyncBN', {}),
    'GN': Norm('GN', {'num_groups': 32}),
    'BRN': Norm('BRN', {}),
    'BRN98': Norm('BRN', {'momentum': 0.02}),  # MABN paper, Tables 3 and 5: alpha = 0.98
    'CBN': Norm('CBN', {'window_size': 4}),
    'NaiveCBN': Norm('NaiveCBN', {'window_size': 4}),
    'MABN16': Norm('MABN', {'buffer_size': 16}, 'CenConv2d'),
    'MABN32': Norm('MABN', {'buffer_size': 32}, 'CenConv2d'),
    'MABN32w': Norm('MABN', {'buffer_size': 32, 'warmup_iters': 10_000}, 'CenConv2d'),
    '-': None,
}

CAFFE_IMAGES = {'mean': (102.9801, 115.9465, 122.7717), 'std': (1.0, 1.0, 1.0), 'bgr_to_rgb': False}
WEIGHTS = {
    'r50': Weights('torchvision://resnet50'),
    'r101': Weights('torchvision://resnet101'),
    'r50-gn': Weights('open-mmlab://detectron/resnet50_gn', **CAFFE_IMAGES),
    'R50-wc': Weights('checkpoints/R50-wc_mmdet3.pth', **CAFFE_IMAGES, stride_in='1x1'),
    '-': Weights(None, **CAFFE_IMAGES, stride_in='1x1'),
}

DETECTORS = {'Faster': 'FasterRCNN', 'Mask': 'MaskRCNN', 'Retina': 'RetinaNet'}

CBN_PAPER = Recipe(
    '4xb4-1x_coco',
    gpus=4,
    images_per_gpu=4,
    length=12,
    unit='epochs',
    milestones=(8, 11),
    learning_rate=0.02,
    bias_factor=1.0,
    bias_decay=1e-4,
    clip=35,
    detector=Detector((2000, 2000), (2000, 2000), low_quality_matches=True),
)
# CBN paper, Figure 3(b): BN over 4 k images
CBN_PAPER_8_IMAGES = replace(CBN_PAPER, ending='4xb2-1x_coco', images_per_gpu=2, learning_rate=0.01)
CBN_PAPER_32_IMAGES = replace(CBN_PAPER, ending='4xb8-1x_coco', images_per_gpu=8, learning_rate=0.04)
MABN_PAPER = Recipe(
    '8xb2-2x_coco',
    gpus=8,
    images_per_gpu=2,
    length=180_000,
    unit='iterations',
    milestones=(120_000, 160_000),
    learning_rate=0.02,
    bias_factor=2.0,
    bias_decay=0.0,
    clip=None,
    # The authors keep 2,000 proposals of the two images of a GPU, so 1,000 of one on average.
    detector=Detector((2000, 1000), (1000, 1000), low_quality_matches=False),
)
MABN_PAPER_RETINANET = replace(MABN_PAPER, learning_rate=0.01, detector=None)

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
    ('baselines', CBN_PAPER_8_IMAGES): """
name                                detector R  backbone FPN    box    mask head fix eval weights
faster-rcnn_r50_fpn_4conv1fc_syncbn Faster   50 BN       SyncBN SyncBN .    4c1f 1   yes  r50
""",
    ('baselines', CBN_PAPER_32_IMAGES): """
name                                detector R  backbone FPN    box    mask head fix eval weights
faster-rcnn_r50_fpn_4conv1fc_syncbn Faster   50 BN       SyncBN SyncBN .    4c1f 1   yes  r50
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
mask-rcnn_r50-scratch_fpn_brn                 Mask     50 BRN98    -      -      -      0c2f -1  no   -
mask-rcnn_r50-scratch_fpn_syncbn              Mask     50 SyncBN   -      -      -      0c2f -1  no   -
mask-rcnn_r50-scratch_fpn_4conv1fc_bn-all     Mask     50 BN       BN     BN     BN     4c1f -1  no   -
mask-rcnn_r50-scratch_fpn_4conv1fc_brn-all    Mask     50 BRN98    BRN98  BRN98  BRN98  4c1f -1  no   -
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
