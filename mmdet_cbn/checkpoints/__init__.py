"""The models that the papers' authors released: catalogue, download and conversion."""

from .catalogue import CATALOGUE, ReleasedModel
from .convert import convert_checkpoint
from .files import CheckpointError, UnsupportedValueError, read_checkpoint

__all__ = [
    'CATALOGUE',
    'CheckpointError',
    'ReleasedModel',
    'UnsupportedValueError',
    'convert_checkpoint',
    'read_checkpoint',
]
