"""Training with models whose layers are wrong."""

from tests.helpers.machine import import_from_here
from tests.helpers.wrong_input import CBN, TRAIN, Case, each_of, norm, write

CASES = [
    Case(
        'misspelt-norm', ('model.neck.norm_cfg', "type='CNB'", 'did you mean CBN'), config=norm("type='CNB'")
    ),
    Case('lower-case-norm', ("type='mabn'", 'did you mean MABN'), config=norm("type='MABN'".lower())),
    Case(
        'norm-of-nowhere', ("type='FilterResponse'", 'custom_imports'), config=norm("type='FilterResponse'")
    ),
    Case(
        'norm-without-type',
        ('model.neck.norm_cfg', 'must be a dictionary with a type'),
        config=norm('window_size=4'),
    ),
    Case(
        'norm-is-text',
        ("model.neck.norm_cfg='CBN'", "dict(type='CBN'"),
        config="model = dict(neck=dict(norm_cfg='CBN'))\n",
    ),
    Case(
        'misspelt-conv',
        ("type='CentConv2d'", 'did you mean CenConv2d'),
        config=norm("type='BN'", more=", conv_cfg=dict(type='CentConv2d')"),
    ),
    *(
        Case(
            f'{kind}-{argument}',
            (
                'model.neck.norm_cfg',
                kind,
                argument.partition('=')[0],
                argument.partition('=')[2],
                'correct it',
            ),
            config=norm(f"type='{kind}', {argument}") + CBN,
        )
        for kind, argument in (
            ('CBN', "window_size='4'"),
            ('CBN', 'window_size=0'),
            ('CBN', 'burn_in=-1'),
            ('CBN', 'momentum=2'),
            ('NaiveCBN', 'window_size=2.5'),
            ('MABN', "buffer_size='16'"),
            ('MABN', 'r_max=0.5'),
            ('MABN', 'track_running_stats=False'),
            ('BRN', 'warmup_iters=-1'),
            ('BRN', 'd_max=-1'),
        )
    ),
    Case(
        'cbn-without-hook',
        ('neck.lateral_convs.0.bn', 'convolution', "custom_hooks = [dict(type='CrossIterationHook')]"),
        config=norm("type='CBN'"),
    ),
    Case(
        'cmbn-without-hook',
        ('neck.lateral_convs.0.bn', 'when a step ends', "custom_hooks = [dict(type='CrossIterationHook')]"),
        config=norm("type='CmBN'"),
    ),
    Case(
        'misspelt-hook',
        ("type='CrossIterationsHook'", 'did you mean CrossIterationHook'),
        config=norm("type='CBN'") + CBN.replace('IterationHook', 'IterationsHook'),
    ),
    Case(
        'wrong-argument-of-hook',
        ('CrossIterationHook', "window_size='big'", 'correct it'),
        config=norm("type='CBN'") + CBN.replace("')", "', window_size='big')"),
    ),
    Case(
        'unknown-argument-of-hook',
        ('CrossIterationHook', 'burnin_epochs', 'correct it'),
        config=norm("type='CBN'") + CBN.replace("')", "', burnin_epochs=3)"),
    ),
    Case(
        'norm-without-convolution',
        ('backbone.norm0', 'CrossIterationBatchNorm2d', 'no convolution', 'another norm'),
        config="model = dict(backbone=dict(_delete_=True, type='SwinTransformer', embed_dims=8, "
        "num_heads=[1, 1, 1, 1], norm_cfg=dict(type='CBN')))\n" + CBN,
    ),
    Case(
        'mabn-partly-centred',
        ('MABN', 'neck.lateral_convs.0.bn', 'backbone', "conv_cfg=dict(type='CenConv2d')"),
        config="model = dict(backbone=dict(norm_cfg=dict(type='MABN'), conv_cfg=dict(type='CenConv2d')), "
        "neck=dict(norm_cfg=dict(type='MABN')))\n",
    ),
    Case(
        'norm-not-behind-its-convolution',
        ('backbone.bn1', 'backbone.conv1', 'must directly follow', 'another norm'),
        config="custom_imports = dict(imports=['late_norm'])\n"
        "model = dict(backbone=dict(type='LateNorm', norm_cfg=dict(type='CBN')))\n" + CBN,
        spoil=write(
            'late_norm.py',
            'from mmdet.models import ResNet\n'
            'from mmengine.registry import MODELS\n'
            '@MODELS.register_module(force=True)\n'
            'class LateNorm(ResNet):\n'
            '    def __init__(self, **kwargs):\n'
            '        super().__init__(**kwargs)\n'
            '        self.bn1.register_forward_pre_hook(lambda norm, inputs: (inputs[0].relu(),))\n',
        ),
        prepare=import_from_here,
        runs=True,
    ),
    Case(
        'one-value-per-channel',
        ('Expected more than 1 value per channel', 'raise the batch size'),
        config=norm("type='BRN'", 'backbone', ', strides=(1, 2, 4, 8)')
        + 'train_dataloader = dict(batch_size=1)\n',
        runs=True,
    ),
]


@each_of(CASES)
def test_ends_with_one_message(case, check):
    check(TRAIN, case)
