# MMDetection's runtime with this package imported, which registers its layers, its hook, and what the
# authors' detectors have and MMDetection 3 lacks.
_base_ = 'mmdet::_base_/default_runtime.py'
custom_imports = dict(imports=['mmdet_cbn', 'mmdet_cbn.authors_detectors'])
