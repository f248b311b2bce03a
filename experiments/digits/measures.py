"""What the study compares in the results of its trials, and by what it chooses their learning rates."""

from ..common.rates import RateSearch
from ..common.seeds import Measure

POPULATION = Measure('population_accuracy', 'accuracy, population statistics (%)', 100.0, 1)
SLOW = Measure('slow_accuracy', 'accuracy, running statistics by batch (%)', 100.0, 1)
ACCURACY = Measure('accuracy', 'accuracy, running statistics (%)', 100.0, 1)
TRAINING_LOSS = Measure('training_loss', 'training loss (nats)', less_is_better=True)
MEASURES = (POPULATION, SLOW, ACCURACY, TRAINING_LOSS)
CURVES = ('training_loss', 'held_out_loss', 'accuracy', 'slow_accuracy', 'population_accuracy')

SEARCH = RateSearch(
    rates=(0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3),  # for each image of an iteration
    first=slice(2, 6),
    # The rate is to make good weights; how well ten batches estimate their statistics is another question.
    chosen_by=POPULATION,
)
RATE = 'Learning rate, an image of the iteration'
