"""Settings of all tests."""

import pytest
import torch


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
