"""CBN, Naive CBN, MABN and BRN for MMDetection 3.x and for plain PyTorch.

Importing the package registers the layers and the hook with MMEngine, which is all that a config needs:
``custom_imports = dict(imports=['mmdet_cbn'])``. It also lets configs inherit from those of this package
(``_base_ = 'mmdet_cbn::cbn/...'``). Without MMDetection ``mmdet_cbn.layers`` and ``mmdet_cbn.ops`` work all
the same: they need torch alone.
"""

from importlib.util import find_spec
from warnings import warn

from .version import __version__

__all__ = ['__version__']

_NEEDED = ('mmengine', 'mmcv', 'mmdet')
_missing = [name for name in _NEEDED if find_spec(name) is None]

if not _missing:
    from mmengine.config.utils import MODULE2PACKAGE

    from .hooks import CrossIterationHook
    from .paired_conv_module import PairedConvModule
    from .registration import register_all

    register_all()
    # For configs: `mmdet_cbn::` stands for .mim/configs beside this module. By the name of the distribution
    # MMEngine 0.10.7 would look for it in site-packages, where an editable installation has no files.
    MODULE2PACKAGE['mmdet_cbn'] = f'{__name__}.registry'
    # And mmseg::, which MMEngine looks for by the name of OpenMMLab's own distribution alone.
    MODULE2PACKAGE['mmseg'] = 'mmseg'
    __all__ += ['CrossIterationHook', 'PairedConvModule']
elif len(_missing) < len(_NEEDED):  # with none of them, this is plain PyTorch
    warn(
        f'{", ".join(_missing)} not found: the layers of mmdet_cbn work without, their registration does '
        'not. For MMDetection run "bash tools/setup_env.sh" in a checkout of mmdet-cbn, or install the '
        'versions of requirements/default.txt (onedl-mmengine, onedl-mmcv, onedl-mmdetection).',
        stacklevel=2,
    )
