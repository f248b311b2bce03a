"""Which batch norms of the models of torchvision and timm can be converted.

``python -m experiments.any_model`` prints the table of docs/any_model.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from copy import deepcopy

from torch import nn

from mmdet_cbn.layers import convert_batch_norm

# A small member of each family.
CLASSIFICATION = (
    'alexnet',
    'convnext_tiny',
    'densenet121',
    'efficientnet_b0',
    'efficientnet_v2_s',
    'googlenet',
    'inception_v3',
    'maxvit_t',
    'mnasnet0_5',
    'mobilenet_v2',
    'mobilenet_v3_small',
    'regnet_x_400mf',
    'regnet_y_400mf',
    'resnet18',
    'resnext50_32x4d',
    'shufflenet_v2_x0_5',
    'squeezenet1_0',
    'swin_t',
    'vgg11_bn',
    'vit_b_16',
    'wide_resnet50_2',
)
DETECTION = (
    'fasterrcnn_mobilenet_v3_large_320_fpn',
    'fcos_resnet50_fpn',
    'keypointrcnn_resnet50_fpn',
    'maskrcnn_resnet50_fpn_v2',
    'retinanet_resnet50_fpn',
    'ssd300_vgg16',
    'ssdlite320_mobilenet_v3_large',
)
SEGMENTATION = ('deeplabv3_mobilenet_v3_large', 'fcn_resnet50', 'lraspp_mobilenet_v3_large')
TORCHVISION = (*CLASSIFICATION, *DETECTION, *SEGMENTATION)
TIMM = (
    'cspresnet50',
    'densenet121',
    'dla34',
    'dpn68',
    'efficientnet_b0',
    'ghostnet_100',
    'hrnet_w18_small',
    'inception_v4',
    'lcnet_050',
    'levit_128s',
    'mobilenetv3_small_100',
    'mobileone_s0',
    'mobilevit_xxs',
    'regnety_002',
    'repvgg_a0',
    'res2net50_26w_4s',
    'resnest14d',
    'resnet18',
    'resnet26d',
    'resnetv2_50',
    'seresnext26d_32x4d',
    'tf_efficientnet_b0',
    'vovnet39a',
    'xception41',
)


def build(library: str, name: str, **options: object) -> nn.Module:
    """Build a model without pre-trained weights.

    Args:
        library: 'torchvision' or 'timm'.
        name: Of the model.
        **options: Of its constructor.
    """
    if library == 'timm':
        import timm

        return timm.create_model(name, **options)
    from torchvision.models import get_model

    if name in (*DETECTION, *SEGMENTATION):
        options |= {'weights_backbone': None}
    elif name in ('googlenet', 'inception_v3'):
        options |= {'init_weights': False}
    return get_model(name, weights=None, **options)


def line_of_table(library: str, name: str) -> str:
    """Say how many batch norms a model has, how many become CBN and MABN, and what CBN leaves."""
    model = build(library, name)
    mabn = convert_batch_norm(deepcopy(model), 'MABN')
    cbn = convert_batch_norm(model, 'CBN')
    found = len(cbn.replaced) + len(cbn.left)
    # Without the names of modules.
    reasons = Counter('pre-activation' if 'pre-act' in why else why for why in cbn.left.values())
    left = '; '.join(f'{number} {reason}' for reason, number in reasons.most_common())
    cells = f'{library} `{name}`', str(found), str(len(cbn.replaced)), str(len(mabn.replaced)), left
    return f'| {" | ".join(cells)} |'.replace('|  |', '| |')


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog='example:\n  python -m experiments.any_model',
    ).parse_args()
    print('| model | batch norms | to CBN | to MABN | left by CBN |')
    print('| --- | --- | --- | --- | --- |')
    for library, names in (('torchvision', TORCHVISION), ('timm', TIMM)):
        for name in names:
            print(line_of_table(library, name), flush=True)


if __name__ == '__main__':
    main()
