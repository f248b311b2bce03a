"""CBN, Naive CBN, MABN and BRN for MMDetection 3.x and for plain PyTorch.

Importing the package registers the layers and the hook with MMEngine, which is all that a config needs:
``custom_imports = dict(imports=['mmdet_cbn'])``. Where mmcv is missing, ``mmdet_cbn.layers`` and
``mmdet_cbn.ops`` still work: they need torch alone.
"""

from importlib.util import find_spec
from warnings import warn

from .version import __version__

__all__ = ['__version__']

_missing = [name for name in ('mmengine', 'mmcv', 'mmdet') if find_spec(name) is None]
if _missing:
    warn(
        f'{", ".join(_missing)} not found: the layers of mmdet_cbn work without, their registration does '
        'not. For MMDetection run "bash tools/setup_env.sh" in a checkout of mmdet-cbn, or install the '
        'versions of requirements/default.txt (onedl-mmengine, onedl-mmcv, onedl-mmdetection).',
        stacklevel=2,
    )
else:
    from .hooks import CrossIterationHook
    from .paired_conv_module import PairedConvModule
    from .registration import register_all

    register_all()
    __all__ += ['CrossIterationHook', 'PairedConvModule']
