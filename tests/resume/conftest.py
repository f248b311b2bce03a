"""Images to train on."""

from pathlib import Path

import pytest

from tests.helpers.noise_images import write_images


@pytest.fixture(scope='session')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve of them, in a folder."""
    root = tmp_path_factory.mktemp('images')
    write_images(root, 12)
    return root
