# MMSegmentation's runtime with this package imported, which registers its layers and its hook.
_base_ = 'mmseg::_base_/default_runtime.py'
custom_imports = dict(imports=['mmdet_cbn'])
