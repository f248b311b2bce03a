"""The task: always the same samples, whole digits with the right labels, and unseen ones for the test."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional as F

from experiments.digits import task
from experiments.digits.task import batches, held_out_samples, training_samples

PARTS = {'training': range(1297), 'validation': range(1297, 1497), 'test': range(1497, 1797)}


@pytest.fixture(autouse=True)
def _no_cache():
    def clear():
        training_samples.cache_clear()
        held_out_samples.cache_clear()

    clear()
    yield
    clear()


def test_samples_depend_on_seed_epoch_and_place_alone():
    first = training_samples(0, 0, 20)
    training_samples.cache_clear()
    torch.manual_seed(1)
    again = training_samples(0, 0, 20)
    assert first.images is not again.images
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.labels, again.labels)
    longer = training_samples(0, 0, 30)
    assert torch.equal(longer.images[:20], first.images)
    assert torch.equal(longer.labels[:20], first.labels)
    held_out = [held_out_samples(split, 20) for split in ('validation', 'test')]
    for other in (training_samples(1, 0, 20), training_samples(0, 1, 20), *held_out):
        assert not (other.images == first.images).any(dim=0).all()
        assert (other.images - first.images).abs().mean() > 0.05


def test_all_batch_sizes_see_the_same_order():
    whole = training_samples(3, 2, 20)
    for batch_size in (1, 2, 3, 32):
        parts = list(batches(3, 2, batch_size, 20))
        assert [len(part.labels) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
        assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
        assert torch.equal(torch.cat([part.labels for part in parts]), whole.labels)


def test_types_ranges_and_classes():
    images, labels = training_samples(0, 0, 500)
    assert images.shape == (500, 1, 32, 32)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.isfinite().all()
    assert -0.5 < images.min() < images.max() < 2.5
    assert labels.bincount(minlength=10).min() >= 25  # of 50 each
    centers = images.flatten(1).softmax(1).reshape(-1, 32, 32)
    assert (centers.sum(1) * torch.arange(32)).sum(1).std() > 0.3  # they are not all in the middle


def tight(image):
    """Cut a picture (H, W) to where it is bright, and bring it to a common size and brightness."""
    rows, columns = (image > 0.15 * image.max()).nonzero().T
    image = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    image = F.interpolate(image[None, None], (12, 12), mode='bilinear')[0, 0]
    return image / image.norm()


@pytest.mark.parametrize('split', PARTS)
def test_labels_are_those_of_the_digits_shown(monkeypatch, split):
    """Without clutter, the nearest of scikit-learn's digits has the label and lies in the right part."""
    monkeypatch.setattr(task, 'FRAGMENTS', 0)
    monkeypatch.setattr(task, 'NOISE', 0.0)
    monkeypatch.setattr(task, 'BACKGROUND', (0.0, 0.0))
    count = 60
    images, labels = training_samples(0, 0, count) if split == 'training' else held_out_samples(split, count)
    source = load_digits()
    known = torch.stack([tight(torch.from_numpy(image).float()) for image in source.images]).flatten(1)
    shown = torch.stack([tight(image[0]) for image in images]).flatten(1)
    nearest = (shown @ known.T).argmax(1)
    assert (torch.from_numpy(source.target)[nearest] == labels).double().mean() >= 0.95


@pytest.mark.parametrize('split', PARTS)
def test_each_split_shows_digits_of_its_own(monkeypatch, split):
    """Alone on the whole canvas, a digit is the enlarged one of scikit-learn's, up to its border."""
    for name, value in (('FRAGMENTS', 0), ('NOISE', 0.0), ('BACKGROUND', (0.0, 0.0))):
        monkeypatch.setattr(task, name, value)
    monkeypatch.setattr(task, 'DIGIT_SIZE', (32, 32))
    monkeypatch.setattr(task, 'DIGIT_CONTRAST', (1.0, 1.0))
    images = training_samples(0, 0, 60).images if split == 'training' else held_out_samples(split, 60).images
    known = torch.from_numpy(load_digits().images).float()[:, None] / 16
    inner = (slice(None), 0, slice(2, -2), slice(2, -2))
    enlarged = F.interpolate(known, (32, 32), mode='bilinear')[inner].flatten(1)
    distance, shown = (images[inner].flatten(1)[:, None] - enlarged).abs().amax(2).min(1)
    assert distance.max() < 1e-5
    assert {*shown.tolist()} <= {*PARTS[split]}
    assert len({*shown.tolist()}) > 40


def test_digits_are_pasted_whole(monkeypatch):
    """The sum of the pasted pixels is that of the digit, enlarged: nothing is cut off at the border."""
    monkeypatch.setattr(task, 'FRAGMENTS', 0)
    monkeypatch.setattr(task, 'NOISE', 0.0)
    monkeypatch.setattr(task, 'BACKGROUND', (0.0, 0.0))
    monkeypatch.setattr(task, 'DIGIT_SIZE', (24, 24))
    monkeypatch.setattr(task, 'DIGIT_CONTRAST', (0.5, 0.5))
    images, _ = training_samples(0, 0, 200)
    sums = torch.from_numpy(load_digits().images[: len(PARTS['training'])]).sum((1, 2)) / 16 * 9 * 0.5
    for total in images.double().sum((1, 2, 3)):
        assert (sums - total).abs().min() < 0.05 * total
    boxes = [(image[0] > 0).nonzero() for image in images]
    assert min(box.min(0).values[1].item() for box in boxes) <= 1
    assert max(box.max(0).values[0].item() for box in boxes) >= 30
    assert max((box.max(0).values - box.min(0).values).max().item() for box in boxes) < 27
