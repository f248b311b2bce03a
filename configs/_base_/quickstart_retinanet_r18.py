# The setting of the quickstart's runs, with a RetinaNet.
_base_ = [
    './models/retinanet_r18_fpn_small.py',
    './datasets/shapes_instance.py',
    './schedules/quickstart.py',
    './default_runtime.py',
]
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
