"""One walk finds everything in a config, with its place."""

import pytest

pytest.importorskip('mmengine')

from mmengine.config import ConfigDict

from mmdet_cbn.launch.config_walk import mappings, walk

MODEL = {'type': 'A', 'heads': [{'norm_cfg': None}, ({'depth': 3},)]}


def test_outer_parts_come_first_each_with_its_place():
    assert list(walk(MODEL, 'model')) == [
        ('model', MODEL),
        ('model.type', 'A'),
        ('model.heads', MODEL['heads']),
        ('model.heads.0', {'norm_cfg': None}),
        ('model.heads.0.norm_cfg', None),
        ('model.heads.1', ({'depth': 3},)),
        ('model.heads.1.0', {'depth': 3}),
        ('model.heads.1.0.depth', 3),
    ]


@pytest.mark.parametrize('kind', [dict, ConfigDict])
def test_mappings_of_any_kind(kind):
    assert list(mappings(kind(MODEL))) == [MODEL, {'norm_cfg': None}, {'depth': 3}]


@pytest.mark.parametrize('part', [None, 'text', 3, [], {}])
def test_a_part_that_has_no_parts(part):
    assert list(walk(part, 'x')) == [('x', part)]
    assert list(mappings(part)) == ([{}] if part == {} else [])
