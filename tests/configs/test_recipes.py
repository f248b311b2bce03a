"""What the COCO configs train with, against the authors' recipes: built models, optimizers and schedules."""

import math

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from tests.configs.building import build, build_once, each_row, part, read, read_once
from tests.configs.expected import CBN_PAPER, MABN_PAPER, ROWS, Recipe, Row

TWO_STAGE = [(name, row) for name, row in ROWS.items() if row.recipe.detector]
RETINANET = [(name, row) for name, row in ROWS.items() if not row.recipe.detector]
CALLS_OF_AN_EPOCH = 7330  # 117,266 images with objects, 16 in a batch


def smooth_l1(error: torch.Tensor, beta: float) -> torch.Tensor:
    """Fast R-CNN's loss, quadratic below beta."""
    return torch.where(error < beta, error**2 / (2 * beta), error - beta / 2)


def check_box_loss(loss: nn.Module, beta: float, weight: float = 1.0) -> None:
    error = torch.tensor([0.0, 0.05, 0.11, 0.5, 1.0, 3.0])
    found = loss(error[:, None], torch.zeros(6, 1), reduction_override='none')[:, 0]
    torch.testing.assert_close(found, weight * smooth_l1(error, beta))


def check_legacy_boxes(coder: object, stds: tuple[float, ...]) -> None:
    """Box regression of boxes that are x2 - x1 + 1 wide, there and back."""
    boxes = torch.tensor([[10.0, 20.0, 49.0, 39.0]])  # 40 x 20 pixels, centre (29.5, 29.5)
    objects = torch.tensor([[14.0, 20.0, 93.0, 39.0]])  # 80 x 20 pixels, centre (53.5, 29.5)
    deltas = torch.tensor([[24 / 40, 0.0, math.log(2), 0.0]]) / torch.tensor(stds)
    torch.testing.assert_close(coder.encode(boxes, objects), deltas)
    torch.testing.assert_close(coder.decode(boxes, deltas), objects)


def check_legacy_anchors(generator: object, sizes: list[tuple[int, ...]]) -> None:
    """The square anchors cover whole pixels around the middle of a cell: 32 of stride 4 are -14 to 17."""
    for stride, expected, anchors in zip(generator.strides, sizes, generator.base_anchors, strict=True):
        found = [(anchor + torch.tensor([0, 0, 1, 1])).tolist() for anchor in anchors]
        squares = [anchor for anchor in found if abs((anchor[2] - anchor[0]) - (anchor[3] - anchor[1])) < 0.5]
        widths = sorted(anchor[2] - anchor[0] for anchor in squares)
        assert widths == pytest.approx(expected, abs=1)  # corners are rounded
        for left, top, right, bottom in squares:
            assert (left + right, top + bottom) == pytest.approx((stride[0], stride[1]), abs=1.1)


@each_row
def test_images(name: str, row: Row):
    cfg, weights = read_once(name), row.weights
    images = cfg.model.data_preprocessor
    assert tuple(images.mean) == weights.mean
    assert tuple(images.std) == weights.std
    assert images.bgr_to_rgb is weights.bgr_to_rgb
    assert images.pad_size_divisor == 32

    has_masks = 'mask' in row.norms
    training = [dict(step) for step in cfg.train_dataloader.dataset.pipeline]
    assert [step['type'] for step in training] == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'Resize',
        'RandomFlip',
        'PackDetInputs',
    ]
    assert (tuple(training[2]['scale']), training[2]['keep_ratio']) == ((1333, 800), True)
    assert training[3]['prob'] == 0.5
    assert training[1].get('with_mask', False) is has_masks
    assert cfg.train_dataloader.dataset.data_prefix.img == 'train2017/'
    assert cfg.train_dataloader.dataset.filter_cfg.filter_empty_gt is True
    assert cfg.val_dataloader.dataset.data_prefix.img == 'val2017/'
    assert cfg.val_evaluator.metric == (['bbox', 'segm'] if has_masks else 'bbox')


@each_row
def test_strides_of_the_backbone(name: str, row: Row):
    backbone = build_once(name).backbone
    strides = {'1x1': ((2, 2), (1, 1)), '3x3': ((1, 1), (2, 2))}[row.weights.stride_in]
    for stage in (backbone.layer2, backbone.layer3, backbone.layer4):
        assert (stage[0].conv1.stride, stage[0].conv2.stride) == strides


@pytest.mark.parametrize(('name', 'row'), TWO_STAGE, ids=[name for name, _ in TWO_STAGE])
def test_two_stages(name: str, row: Row):
    model, detector = build_once(name), row.recipe.detector
    rpn, roi = model.rpn_head, model.roi_head

    check_legacy_anchors(rpn.prior_generator, [(32,), (64,), (128,), (256,), (512,)])
    check_legacy_boxes(rpn.bbox_coder, (1, 1, 1, 1))
    check_box_loss(rpn.loss_bbox, beta=1 / 9)
    assert rpn.train_cfg.allowed_border == 0
    assigner, sampler = rpn.assigner, rpn.sampler
    assert (assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou) == (0.7, 0.3, 0.3)
    assert assigner.match_low_quality is True
    assert (type(sampler).__name__, sampler.num, sampler.pos_fraction) == ('RandomSampler', 256, 0.5)
    assert sampler.add_gt_as_proposals is False

    check_legacy_boxes(roi.bbox_head.bbox_coder, (0.1, 0.1, 0.2, 0.2))
    check_box_loss(roi.bbox_head.loss_bbox, beta=1.0)
    assigner, sampler = roi.bbox_assigner, roi.bbox_sampler
    assert (assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou) == (0.5, 0.5, 0.5)
    assert assigner.match_low_quality is detector.low_quality_matches
    assert (type(sampler).__name__, sampler.num, sampler.pos_fraction) == ('RandomSampler', 512, 0.25)
    assert sampler.add_gt_as_proposals is True
    extractors = [(roi.bbox_roi_extractor, 7)]
    if 'mask' in row.norms:
        extractors.append((roi.mask_roi_extractor, 14))
        assert model.train_cfg.rcnn.mask_size == 28
        assert model.test_cfg.rcnn.mask_thr_binary == 0.5
    for extractor, size in extractors:
        assert extractor.finest_scale == 56
        for layer, stride in zip(extractor.roi_layers, (4, 8, 16, 32), strict=True):
            assert (layer.output_size, layer.spatial_scale) == ((size, size), 1 / stride)
            assert (layer.sampling_ratio, layer.aligned, layer.pool_mode) == (2, False, 'avg')

    for proposals, expected in (
        (model.train_cfg.rpn_proposal, detector.proposals_in_training),
        (model.test_cfg.rpn, detector.proposals_in_test),
    ):
        assert (proposals.nms_pre, proposals.max_per_img) == expected
        assert proposals.nms == {'type': 'nms', 'iou_threshold': 0.7, 'offset': 1}
    final = model.test_cfg.rcnn
    assert (final.score_thr, final.max_per_img) == (0.05, 100)
    assert final.nms == {'type': 'nms', 'iou_threshold': 0.5, 'offset': 1}


@pytest.mark.parametrize(('name', 'row'), RETINANET, ids=[name for name, _ in RETINANET])
def test_retinanet(name: str, row: Row):
    model = build_once(name)
    head = model.bbox_head
    octaves = [tuple(round(size * 2 ** (step / 3)) for step in range(3)) for size in (32, 64, 128, 256, 512)]
    check_legacy_anchors(head.prior_generator, octaves)
    check_legacy_boxes(head.bbox_coder, (0.1, 0.1, 0.2, 0.2))
    check_box_loss(head.loss_bbox, beta=0.11, weight=1 / 4)
    assert (head.loss_cls.alpha, head.loss_cls.gamma, head.loss_cls.loss_weight) == (0.25, 2.0, 1.0)
    assigner = head.assigner
    assert (assigner.pos_iou_thr, assigner.neg_iou_thr, assigner.min_pos_iou) == (0.5, 0.4, 0)
    assert assigner.match_low_quality is True
    assert head.train_cfg.allowed_border == -1
    assert (model.test_cfg.score_thr, model.test_cfg.nms_pre, model.test_cfg.max_per_img) == (0.05, 1000, 100)
    assert model.test_cfg.nms == {'type': 'nms', 'iou_threshold': 0.4, 'offset': 1}

    neck = model.neck
    assert neck.relu_before_extra_convs is True
    extra = neck.fpn_convs[3:]
    assert [conv.conv.in_channels for conv in extra] == [2048, 256]  # P6 comes from C5
    assert all(type(conv.conv) is nn.Conv2d and not conv.with_activation for conv in extra)


@each_row
def test_groups_of_the_optimizer(name: str, row: Row):
    cfg, recipe = read_once(name), row.recipe
    assert f'_{recipe.gpus}xb{recipe.images_per_gpu}-' in name
    assert cfg.train_dataloader.batch_size == recipe.images_per_gpu
    assert cfg.auto_scale_lr == {'enable': False, 'base_batch_size': recipe.gpus * recipe.images_per_gpu}
    clip = recipe.clip and {'max_norm': recipe.clip, 'norm_type': 2}
    assert cfg.optim_wrapper.get('clip_grad') == clip
    assert cfg.custom_imports.imports == ['mmdet_cbn', 'mmdet_cbn.authors_detectors']
    crosses = any(norm and norm.type in ('CBN', 'NaiveCBN') for norm in row.norms.values())
    hook = {'type': 'CrossIterationHook', 'burn_in_epochs': 3}
    assert cfg.get('custom_hooks', []) == ([hook] if crosses else [])

    model = build_once(name)
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper).optimizer
    assert type(optimizer) is torch.optim.SGD
    settings = {
        id(parameter): (group['lr'], group['weight_decay'], group['momentum'])
        for group in optimizer.param_groups
        for parameter in group['params']
    }
    weights = (recipe.learning_rate, 1e-4, 0.9)
    biases = (recipe.learning_rate * recipe.bias_factor, recipe.bias_decay, 0.9)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert settings[id(parameter)] == (biases if key.endswith('bias') else weights), key


def share_of_learning_rate(recipe: Recipe, iteration: int) -> float:
    """The authors' schedules: iteration from 0, epochs of CALLS_OF_AN_EPOCH."""
    passed = iteration // CALLS_OF_AN_EPOCH if recipe.unit == 'epochs' else iteration
    steps = sum(passed >= milestone for milestone in recipe.milestones)
    return min(1 / 3 + 2 / 3 * iteration / 500, 1) * 0.1**steps


@each_row
def test_length_of_the_run(name: str, row: Row):
    cfg, recipe = read_once(name), row.recipe
    length = {'epochs': 'max_epochs', 'iterations': 'max_iters'}[recipe.unit]
    assert cfg.train_cfg[length] == recipe.length
    assert cfg.log_processor.by_epoch is (recipe.unit == 'epochs')
    same = CBN_PAPER if recipe.unit == 'epochs' else MABN_PAPER
    first = next(key for key, other in ROWS.items() if other.recipe == same)
    assert cfg.param_scheduler == read_once(first).param_scheduler  # which the next test follows


@pytest.mark.slow
@pytest.mark.parametrize('recipe', [CBN_PAPER, MABN_PAPER], ids=['CBN', 'MABN'])
def test_learning_rate_of_each_group_over_the_whole_run(recipe: Recipe):
    cfg = read_once(next(name for name, row in ROWS.items() if row.recipe == recipe))
    model = nn.Linear(1, 1)  # a weight and a bias: the two kinds of groups that there are
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    schedulers = [PARAM_SCHEDULERS.build({'optimizer': wrapper, **each}) for each in cfg.param_scheduler]
    by_iteration = [scheduler for scheduler in schedulers if not scheduler.by_epoch]
    by_epoch = [scheduler for scheduler in schedulers if scheduler.by_epoch]
    factors = {id(model.weight): 1.0, id(model.bias): recipe.bias_factor}
    groups = [
        (group, recipe.learning_rate * factors[id(parameter)])
        for group in wrapper.optimizer.param_groups
        for parameter in group['params']
    ]
    assert len(groups) == 2
    total = recipe.length * (CALLS_OF_AN_EPOCH if recipe.unit == 'epochs' else 1)
    for iteration in range(total):
        share = share_of_learning_rate(recipe, iteration)
        for group, whole in groups:
            assert abs(group['lr'] - whole * share) < 1e-9, iteration
        for scheduler in by_iteration:
            scheduler.step()
        if (iteration + 1) % CALLS_OF_AN_EPOCH == 0:
            for scheduler in by_epoch:
                scheduler.step()


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'mabn/mask-rcnn_r50-scratch_fpn_4conv1fc_mabn-all_8xb2-2x_coco',
        'baselines/mask-rcnn_r50-scratch_fpn_bn_8xb2-2x_coco',
        'mabn/retinanet_r50-scratch_fpn_mabn-all_8xb2-2x_coco',
    ],
)
def test_initial_weights_from_scratch(name: str):
    model = build(read(name), 'cpu').requires_grad_(False)
    model.init_weights()
    row = ROWS[name]

    def check_uniform(weight: torch.Tensor) -> None:  # PyTorch's kaiming_uniform_(a=1)
        bound = math.sqrt(3 / weight[0].numel())
        assert weight.abs().max() <= bound
        assert weight.std() == pytest.approx(bound / math.sqrt(3), rel=0.05)

    def check_normal(weight: torch.Tensor, std: float) -> None:
        assert weight.std() == pytest.approx(std, rel=0.05)
        assert weight.abs().max() > 3 * std

    for module in (model.backbone, model.neck):
        for conv in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
            check_uniform(conv.weight)
            assert conv.bias is None or not conv.bias.any()
    for key, parameter in model.named_parameters():  # gamma and beta
        if parameter.ndim == 1 and 'fc' not in key:
            prior = key.endswith('retina_cls.bias')
            value = math.log(0.01 / 0.99) if prior else float(key.endswith('weight'))
            assert parameter.tolist() == pytest.approx([value] * len(parameter)), key
    box = part(model, 'box', row)
    if row.detector == 'RetinaNet':
        for conv in (m for m in box.modules() if isinstance(m, nn.Conv2d)):
            check_normal(conv.weight, 0.01)
        return
    for conv in (m for m in (*model.rpn_head.modules(), *box.modules()) if isinstance(m, nn.Conv2d)):
        check_normal(conv.weight, 0.01)
    for layer in box.shared_fcs:
        check_uniform(layer.weight)
    check_normal(box.fc_cls.weight, 0.01)
    check_normal(box.fc_reg.weight, 0.001)
    for conv in (m for m in model.roi_head.mask_head.modules() if isinstance(m, nn.Conv2d)):
        check_normal(conv.weight, math.sqrt(2 / (conv.out_channels * conv.weight[0, 0].numel())))


OTHERS = {  # bases with MMDetection 3's own detectors, and the rows that share their schedule
    'cbn_faster-rcnn_r50_mmdet3': 'baselines/faster-rcnn_r50_fpn_4conv1fc_4xb4-1x_coco',
    'cbn_mask-rcnn_r50_mmdet3': 'baselines/mask-rcnn_r50_fpn_4conv1fc_4xb4-1x_coco',
}


@pytest.mark.parametrize('base', OTHERS)
def test_base_of_mmdetection_3(base: str):
    cfg, row = read(f'_base_/{base}'), read_once(OTHERS[base])
    for key in ('train_dataloader', 'param_scheduler', 'optim_wrapper', 'train_cfg', 'val_evaluator'):
        assert cfg[key] == row[key]
    stock = read(f'_base_/models/{base.removeprefix("cbn_").removesuffix("_mmdet3")}_fpn_4conv1fc').model
    assert cfg.model == stock
    rpn = build(cfg).rpn_head
    assert (type(rpn.loss_bbox).__name__, type(rpn.prior_generator).__name__) == ('L1Loss', 'AnchorGenerator')
