"""What the study compares in the results of its runs."""

from ..common.seeds import Measure

POPULATION_BOX = Measure('population_box_ap', 'box AP, population statistics', 100.0, 1)
POPULATION_MASK = Measure('population_mask_ap', 'mask AP, population statistics', 100.0, 1)
SLOW_BOX = Measure('slow_box_ap', 'box AP, running statistics by batch', 100.0, 1)
SLOW_MASK = Measure('slow_mask_ap', 'mask AP, running statistics by batch', 100.0, 1)
BOX = Measure('box_ap', 'box AP, running statistics', 100.0, 1)
MASK = Measure('mask_ap', 'mask AP, running statistics', 100.0, 1)
TRAINING_LOSS = Measure('training_loss', 'training loss', less_is_better=True)
MEASURES = (POPULATION_BOX, POPULATION_MASK, SLOW_BOX, SLOW_MASK, BOX, MASK, TRAINING_LOSS)
DRAWN = (POPULATION_BOX, POPULATION_MASK, BOX, TRAINING_LOSS)
RATE = 'Learning rate, an image of the iteration'
