"""The config that goes with a checkpoint of plain BN."""

from pathlib import Path

import pytest

pytest.importorskip('mmdet')

from mmengine.config import Config

from mmdet_cbn.checkpoints.plain import needs_package, plain_config

CONFIGS = Path(__file__).parents[2] / 'configs'


def without_none(value):
    """Leave out what is None, which is what stands for a plain convolution, and what BN is built with."""
    if isinstance(value, dict):
        return {name: without_none(part) for name, part in value.items() if part is not None}
    return [without_none(part) for part in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize('method', ['cbn', 'naive-cbn', 'mabn', 'brn'])
def test_a_quickstart_becomes_that_of_bn(method):
    def read(name: str) -> Config:
        return Config.fromfile(CONFIGS / f'quickstart/mask-rcnn_r18_fpn_4conv1fc_{name}_shapes.py')

    cfg, bn = read(method), read('bn')
    kept = cfg.pretty_text
    plain = plain_config(cfg)
    assert cfg.pretty_text == kept
    assert without_none(plain.model.to_dict()) == without_none(bn.model.to_dict())
    assert 'mmdet_cbn' not in plain.pretty_text
    assert 'CrossIterationHook' not in plain.pretty_text
    assert Config.fromstring(plain.pretty_text, '.py').model == plain.model
    assert not needs_package(plain)


def test_parts_that_mmdetection_lacks_stay_imported():
    cfg = Config.fromfile(CONFIGS / 'mabn/mask-rcnn_r50-scratch_fpn_4conv1fc_mabn-all_8xb2-2x_coco.py')
    plain = plain_config(cfg)
    assert plain.custom_imports.imports == ['mmdet_cbn.authors_detectors']
    assert needs_package(plain)
    assert not any(name in str(plain.model) for name in ('MABN', 'CenConv2d'))


def test_settings_of_bn_and_other_imports_are_kept():
    cfg = Config(
        {
            'custom_imports': {'imports': ['mmdet_cbn', 'other'], 'allow_failed_imports': False},
            'custom_hooks': [{'type': 'CrossIterationHook'}, {'type': 'EMAHook'}],
            'model': {
                'norm_cfg': {'type': 'CBN', 'eps': 1e-3, 'requires_grad': False, 'window_size': 8},
                'stages': ({'conv_cfg': {'type': 'CenConv2d'}}, {'type': 'PairedConvModule'}),
            },
        }
    )
    assert plain_config(cfg).to_dict() == {
        'custom_imports': {'imports': ['other'], 'allow_failed_imports': False},
        'custom_hooks': [{'type': 'EMAHook'}],
        'model': {
            'norm_cfg': {'type': 'BN', 'eps': 1e-3, 'requires_grad': False},
            'stages': ({'conv_cfg': None}, {'type': 'ConvModule'}),
        },
    }
