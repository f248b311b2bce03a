"""Reading many configs."""

from collections.abc import Iterator
from functools import cache

import pytest
from mmengine.config import utils
from mmengine.registry import init_default_scope


@pytest.fixture(scope='module', autouse=True)
def _read_metafiles_once() -> Iterator[None]:
    """MMEngine looks in mmdet's hundred metafiles for each config that starts with one of mmdet's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, 'load', cache(utils.load))
        yield


@pytest.fixture(autouse=True)
def _default_data(monkeypatch) -> None:
    monkeypatch.delenv('COCO_ROOT', raising=False)
    init_default_scope('mmdet')
