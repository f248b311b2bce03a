"""The box coder of the authors' detectors. What its configs build is in tests/configs."""

import pytest
import torch

from mmdet_cbn.authors_detectors import WholePixelBoxCoder


@pytest.fixture
def coder() -> WholePixelBoxCoder:
    return WholePixelBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))


def test_decoding_inverts_encoding(coder):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 50, 2, generator=generator) * 100
    sizes = torch.rand(2, 50, 2, generator=generator) * 60
    boxes, objects = torch.cat([corners, corners + sizes], dim=2)
    torch.testing.assert_close(coder.decode(boxes, coder.encode(boxes, objects)), objects, rtol=0, atol=1e-4)


def test_a_box_of_one_pixel(coder):
    pixel = torch.tensor([[5.0, 7.0, 5.0, 7.0]])  # 1 x 1, so a shift of one width is a shift of one pixel
    assert coder.decode(pixel, torch.tensor([[10.0, 0.0, 0.0, 0.0]])).tolist() == [[6.0, 7.0, 6.0, 7.0]]


def test_boxes_are_cut_to_the_image(coder):
    box = torch.tensor([[-8.0, -6.0, 90.0, 70.0]])
    decoded = coder.decode(box, torch.zeros(1, 8), max_shape=(60, 80, 3))  # two classes
    assert decoded.tolist() == [[0.0, 0.0, 80.0, 60.0] * 2]


def test_no_boxes(coder):
    assert coder.decode(torch.zeros(0, 4), torch.zeros(0, 320), max_shape=(60, 80)).shape == (0, 320)
