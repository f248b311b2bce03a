# ResNet-50 and its images as the MABN authors train them in any detector: nothing frozen, the norm in
# training, BGR from 0 to 255 with the mean subtracted, and from scratch unless a config names weights.
mabn_images = dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
caffe2_init = dict(type='Caffe2Xavier', layer='Conv2d')  # PyTorch's kaiming_uniform_(a=1)
mabn_backbone = dict(
    style='caffe',  # the stride in the first 1x1 convolution of a block
    frozen_stages=-1,
    norm_eval=False,
    zero_init_residual=False,
    init_cfg=[caffe2_init],
)
