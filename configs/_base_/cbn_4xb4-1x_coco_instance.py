# Data and schedule of the CBN authors: 4 GPUs x 4 images, 12 epochs.
_base_ = ['./datasets/coco_instance.py', './schedules/cbn_1x.py', './default_runtime.py']
train_dataloader = dict(batch_size=4)
