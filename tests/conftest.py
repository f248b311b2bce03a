"""Settings of all tests."""

import pytest
import torch
from hypothesis import settings

# The suite tries the same examples in each run, so that a failure can be repeated. To search further:
# pytest --hypothesis-profile=search
settings.register_profile('suite', deadline=None, derandomize=True, max_examples=60)
settings.register_profile('search', deadline=None, max_examples=2000)
settings.load_profile('suite')
pytest.register_assert_rewrite('tests.helpers')


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip float16 on the CPU where torch has no kernels for it."""
    if tuple(map(int, torch.__version__.split('.')[:2])) >= (2, 2):
        return
    skip = pytest.mark.skip(reason='torch 2.1 has no float16 batch norm on the CPU')
    for item in items:
        if item.get_closest_marker('float16'):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Make every test repeatable on its own."""
    torch.manual_seed(0)
