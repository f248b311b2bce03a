"""In which ways the detectors of the study are trained.

The settings of a regime are those of BN, GN and SyncBN: nothing here was looked at with another method, but
for RetinaNet, which AvgBN had been tried in before (docs/study.md). With a pretrained backbone exposures vary
and few RoIs train the heads, since BN is not behind GN without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..common.rates import RateSearch
from .measures import POPULATION_BOX, TRAINING_LOSS

CONTRASTS = (0.25, 1.0)  # of images of different exposures
SHIFTS = (-60.0, 60.0)  # of their brightness, of 255
# Height and width of each photograph: padding would enter the statistics of images of several shapes.
PHOTOGRAPH_SIZE = (256, 256)
WARM_UP_IMAGES = 200  # of the learning rate: the quickstart's 50 iterations of 4 images


@dataclass(frozen=True)
class Regime:
    """One way of training.

    Args:
        title: What it is.
        epochs: How long, where nothing else is asked for.
        search: How learning rates, for each image of an iteration, are chosen.
        optimizer: Without its learning rate.
        schedule: Of the learning rate behind its warm-up: for a number of epochs a scheduler.
        pretrained: Whether the backbone has been trained before, on other images, and is frozen, with BN. The
            norm that is compared is in FPN and heads then, else in the backbone too.
        regions: RoIs of an image that train the heads of a Mask R-CNN. Fewer make the statistics noisier.
        varied: Whether images differ in exposure, those of the test as well.
        retinanet: Whether it is a RetinaNet, each level of whose head has norms of its own, in the place of a
            Mask R-CNN.
        photographs: Whether it fits the training images of a folder in COCO's layout, and is evaluated on
            them, in the place of generated shapes.
    """

    title: str
    epochs: int
    search: RateSearch
    optimizer: Mapping[str, Any]
    schedule: Mapping[str, Any]
    pretrained: bool
    regions: int
    varied: bool = False
    retinanet: bool = False
    photographs: bool = False


def _rates(*rates: float) -> RateSearch:
    return RateSearch(rates, slice(1, 5), chosen_by=POPULATION_BOX)


_PRETRAINED = Regime(
    'Detector with a pretrained, frozen backbone, images of different exposures',
    epochs=4,
    search=_rates(0.0003, 0.001, 0.003, 0.01, 0.03, 0.1),
    optimizer={'type': 'SGD', 'momentum': 0.9, 'weight_decay': 0.0001},
    schedule={'type': 'MultiStepLR', 'gamma': 0.1},
    pretrained=True,
    regions=16,
    varied=True,
)
REGIMES: Mapping[str, Regime] = {
    'scratch': Regime(
        'Detector from scratch',
        epochs=6,
        search=_rates(0.00003, 0.0001, 0.0003, 0.001, 0.003, 0.01),
        optimizer={'type': 'AdamW', 'weight_decay': 0.01},
        schedule={'type': 'CosineAnnealingLR'},
        pretrained=False,
        regions=64,
    ),
    'pretrained': _PRETRAINED,
    'retinanet': replace(
        _PRETRAINED,
        title='RetinaNet with a pretrained, frozen backbone, images of different exposures',
        retinanet=True,
    ),
    'photographs': replace(
        _PRETRAINED,
        title='Fitting photographs with a pretrained, frozen backbone',
        epochs=24,
        search=replace(_PRETRAINED.search, chosen_by=TRAINING_LOSS),  # AP is nearly 0 after so few epochs
        varied=False,
        photographs=True,
    ),
}


def data_settings(regime: Regime) -> dict[str, Any]:
    """Return what a regime does to its images."""
    return {
        'exposures': [*CONTRASTS, *SHIFTS] if regime.varied else None,
        'photograph_size': list(PHOTOGRAPH_SIZE) if regime.photographs else None,
    }


def scheduler(regime: Regime, iterations: int) -> dict[str, Any]:
    """Return the scheduler of a run: a cosine to 0, or steps where 12 epochs of the papers have them."""
    steps = [round(iterations * epoch / 12) for epoch in (8, 11)]
    milestones = {'milestones': steps} if regime.schedule['type'] == 'MultiStepLR' else {}
    return {**regime.schedule, **milestones, 'by_epoch': False, 'begin': 0, 'end': iterations}
