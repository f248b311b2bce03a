"""The scope ``mmdet_cbn``: registries that find what MMDetection's find.

MMEngine marks what a config inherits from ``mmdet_cbn::...`` with the scope ``mmdet_cbn``. To build such a
part, it imports this module and looks for the scope in its tree of registries. Nothing is registered here:
the layers and the hook are in MMEngine's root registries (``registration.py``), all else is MMDetection's.
"""

from mmdet import registry as mmdet_registry
from mmdet.utils import register_all_modules
from mmengine.registry import Registry

register_all_modules(init_default_scope=False)

for parent in tuple(vars(mmdet_registry).values()):
    if isinstance(parent, Registry) and parent.scope == 'mmdet':
        # Without a location MMEngine would look for an mmdet_cbn.utils and warn that there is none.
        Registry(parent.name, parent=parent, scope='mmdet_cbn', locations=[__name__])
