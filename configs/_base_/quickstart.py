# The setting that all quickstart runs share: 2 processes x 2 images of the generated shapes.
_base_ = ['./datasets/shapes_instance.py', './schedules/quickstart.py', './default_runtime.py']
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
