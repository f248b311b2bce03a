_base_ = ['./models/retinanet_r18_fpn_small.py', './quickstart.py']
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
