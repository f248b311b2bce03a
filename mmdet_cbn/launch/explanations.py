"""What errors of a run mean to a user, and what to do about them."""

import re
from traceback import extract_tb

from ..checkpoints import CheckpointError, UnsupportedValueError
from ..layers.errors import PairingError, SingleValueError
from ..whole_file import DISK_FULL, explain_file

_SINGLE_VALUE = (
    '{0}: a norm layer got one value per channel; raise the batch size or the size of the images, '
    'or use another norm there'
)

TRUST_REMEDY = 'if you trust its source, add --trust-checkpoint; else take another checkpoint'

_BY_TYPE = {
    PairingError: '{0}',
    SingleValueError: _SINGLE_VALUE,
    UnsupportedValueError: f'{{0}}; {TRUST_REMEDY}',
    CheckpointError: '{0}',
}

# Errors of other libraries have no types of their own, or lose them on the way out of a data loader worker.
_BY_TEXT = {
    r'failed to load image: (.+)': 'cannot decode the image {0}: it is damaged, cut short or no image; '
    'replace it, or take it out of the annotation file',
    r'OpenCV.*!_?buf\.empty\(\)': 'an image of the data set is an empty file; find it with '
    'find FOLDER -size 0, and replace it or take it out of the annotation file',
    r"No such file or directory: ['\"]?([^'\"]+)": 'there is no file {0}; put it back, or change the config',
    r'([\w.]+) is not in the (.+?) registry': '{0} is not in the registry {1}: check the spelling in the '
    "config; what is defined elsewhere needs custom_imports = dict(imports=['ITS MODULE'])",
    r'(Expected more than 1 value per channel when training.*)': _SINGLE_VALUE,  # nn.BatchNorm2d
    r'(?:EADDRINUSE|[Aa]ddress already in use)': 'the port for joining the processes (MASTER_PORT) is taken: '
    'set PORT, or MASTER_PORT where torchrun is called directly, to a free one, or leave it unset',
    r'Connection (?:closed|reset) by peer': 'another process of this run ended, see its message',
}


def explain(error: Exception) -> str | None:
    """Translate an error that a user's config, data or machine caused.

    Args:
        error: What was raised anywhere in a run; errors of data loader workers are recognized as well.

    Returns:
        A message of one line, with the remedy; None for all other errors.
    """
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return explain_file(error)
    place = place_in_config(error)
    text = last_line(error)
    if place and isinstance(error, TypeError) and 'argument' in text:
        return f'{place}: {text}: check the arguments in the config'
    for kind, explanation in _BY_TYPE.items():
        if isinstance(error, kind):
            return explanation.format(text)
    for pattern, explanation in _BY_TEXT.items():
        found = re.search(pattern, text)
        if found:
            return explanation.format(*found.groups())
    if isinstance(error, AssertionError | ValueError) and _passed_through(error, '_load_masks'):
        return (
            'a mask has another size than its image as it is loaded: width and height in the annotation file '
            'must be those of the image; --check opens some of them and tells which'
        )
    if place and 'need at least one array to concatenate' in text:  # BaseDataset of MMEngine
        return f'{place} has no image left; check its annotations, indices and filter_cfg (min_size)'
    if place:
        return f'cannot build {place}: {describe(error)}; correct it in the config'
    if isinstance(error, OSError) and error.filename:
        return explain_file(error)
    return None


def describe(error: Exception) -> str:
    """Say what an error is, what it says and which line raised it, for those whose own code is at fault."""
    frame = extract_tb(error.__traceback__)[-1]
    return f'{type(error).__name__}: {last_line(error)} ({frame.filename}:{frame.lineno})'


def _passed_through(error: Exception, function: str) -> bool:
    """Tell whether a function is in the traceback, also in that of a data loader worker, which is text."""
    names = {frame.name for frame in extract_tb(error.__traceback__)}
    return function in names or f', in {function}\n' in str(error)


def last_line(error: Exception) -> str:
    """Return an error's own words; a data loader worker's error has its whole traceback in front of them."""
    lines = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if 'in DataLoader worker' not in lines[0]:
        return ' '.join(line.strip() for line in lines)
    return lines[-1].partition(': ')[2] or lines[-1]


def place_in_config(error: Exception) -> str:
    """Name the ``type`` entries of the config that were being built, e.g. 'MaskRCNN > ResNet'."""
    types = []
    traceback = error.__traceback__
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_code.co_name == 'build_from_cfg':  # of mmengine.registry
            kind = frame.f_locals.get('obj_type', '')
            types.append(kind if isinstance(kind, str) else getattr(kind, '__name__', ''))
        elif frame.f_code.co_name == 'build_dataloader':  # of its Runner
            types.append('dataloader')
        traceback = traceback.tb_next
    return ' > '.join(filter(None, types))
