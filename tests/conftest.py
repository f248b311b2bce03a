"""Settings of all tests."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Make every test repeatable on its own."""
    torch.manual_seed(0)
