"""Masks that pycocotools decodes are right, and those that it misreads are wrong."""

import json

import pytest

pytest.importorskip('mmengine')

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as mask_utils

from mmdet_cbn.launch.masks import can_be_evaluated, has_area, what_is_wrong

sides = st.integers(1, 24)
bitmaps = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1)))


def image(height, width):
    return {'height': height, 'width': width}


@given(bitmaps)
def test_run_lengths_of_pycocotools(bitmap):
    encoded = mask_utils.encode(np.asfortranarray(bitmap))
    mask = {'size': encoded['size'], 'counts': encoded['counts'].decode()}
    assert what_is_wrong(mask, image(*bitmap.shape)) is None
    assert 'size=' in what_is_wrong(mask, image(bitmap.shape[0] + 1, bitmap.shape[1]))


@given(bitmaps, st.data())
def test_run_lengths_of_a_changed_text(bitmap, data):
    """What passes covers the image to the last pixel, so nothing that lay in memory shows."""
    encoded = mask_utils.encode(np.asfortranarray(bitmap))
    text = encoded['counts'].decode()
    place = data.draw(st.integers(0, len(text) - 1))
    text = text[:place] + data.draw(st.text('0123456789:;@ABOPQno~ ', max_size=3)) + text[place + 1 :]
    mask = json.loads(json.dumps({'size': encoded['size'], 'counts': text}))
    if what_is_wrong(mask, image(*bitmap.shape)) is None:
        decoded = mask_utils.decode(mask)
        assert set(np.unique(decoded)) <= {0, 1}
        assert decoded.sum() == mask_utils.area(mask)


@given(bitmaps)
def test_run_lengths_as_numbers(bitmap):
    flat = bitmap.flatten(order='F')
    edges = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    counts = [0, *counts] if flat[0] else counts
    mask = {'size': list(bitmap.shape), 'counts': counts}
    assert what_is_wrong(mask, image(*bitmap.shape)) is None
    rle = mask_utils.frPyObjects(mask, *bitmap.shape)
    np.testing.assert_array_equal(mask_utils.decode(rle), bitmap)
    for other in ([*counts, 1], counts[:-1], [*counts[:-1], counts[-1] + 1], [*counts, 1.0], [*counts, True]):
        assert what_is_wrong({**mask, 'counts': other}, image(*bitmap.shape))


@given(
    st.lists(
        st.one_of(
            st.floats(),
            st.floats(-50, 50),
            st.integers(-100, 100),
            st.integers(),
            st.just('1'),
            st.booleans(),
        )
    )
)
def test_coordinates_are_finite_numbers_not_far_from_the_image(values):
    right = all(
        type(value) is not bool and isinstance(value, int | float) and -90 <= value <= 90 for value in values
    )
    assert (what_is_wrong([[1, 2, 3, 4, 5, 6], values], image(5, 9)) is None) is right


@pytest.mark.parametrize(
    ('polygons', 'area', 'evaluated'),
    [
        ([[1, 1, 5, 1, 5, 5]], True, True),
        ([[1, 1, 5, 1], [1, 1, 5, 1, 5, 5]], True, False),
        ([[1, 1, 5, 1, 5, 5], [1, 1]], True, True),
        ([[1, 1, 5, 1]], False, False),
        ([[1, 1, 5, 1, 5]], False, True),
        ([[]], False, False),
    ],
)
def test_polygons_of_few_points(polygons, area, evaluated):
    """As MMDetection's loading and pycocotools have it."""
    assert what_is_wrong(polygons, image(9, 9)) is None
    assert has_area(polygons) is area
    assert can_be_evaluated(polygons) is evaluated
    try:
        mask_utils.decode(mask_utils.merge(mask_utils.frPyObjects(polygons, 9, 9)))
        read = True
    except Exception:
        read = False
    assert read or not evaluated
