_base_ = ['./models/mask-rcnn_r18_fpn_4conv1fc_small.py', './quickstart.py']
