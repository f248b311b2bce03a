"""Settings of all tests."""

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch

collect_ignore: list[str] = []
if find_spec('hypothesis') is None:  # a machine with torch alone, on which the tests of the GPU run
    collect_ignore += ['layers/test_call_sequences.py', 'ops/test_properties.py']
else:
    from hypothesis import settings

    # The suite tries the same examples in each run, so that a failure can be repeated. To search further:
    # pytest --hypothesis-profile=search
    settings.register_profile('suite', deadline=None, derandomize=True, max_examples=60)
    settings.register_profile('search', deadline=None, max_examples=2000)
    settings.load_profile('suite')
pytest.register_assert_rewrite('tests.helpers')


def pytest_report_header() -> str | None:
    """Name what is left out."""
    return f'hypothesis is not installed, left out: {", ".join(collect_ignore)}' if collect_ignore else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine or this torch cannot run; the files that take long go first.

    Processes that share the tests would else wait at the end for whoever got the last of them.
    """
    skips = {}
    if not torch.cuda.is_available():
        skips['gpu'] = 'needs a GPU'
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 2):
        skips['float16'] = 'torch 2.1 has no float16 batch norm on the CPU'
    for item in items:
        for marker, reason in skips.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))
    long = {item.path for item in items if item.get_closest_marker('slow')}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Make every test repeatable on its own."""
    torch.manual_seed(0)


@pytest.fixture(scope='module', autouse=True)
def _default_scope() -> Iterator[None]:
    """Give each file the default scope it has alone: runners set that of MMEngine and leave it behind."""
    with pytest.MonkeyPatch.context() as patch:
        if find_spec('mmengine'):
            from mmengine.registry import DefaultScope

            patch.setattr(DefaultScope, '_instance_dict', DefaultScope._instance_dict.copy())
        yield
