"""Loss, learning rate and optimizer. Pure Keras."""

from __future__ import annotations

from collections.abc import Callable

import keras
from keras import ops

NOT_DECAYED = ["bias", "beta", "gamma"]  # names of the variables that only shift or scale


def smoothed_crossentropy(smoothing: float) -> Callable:
    """Cross-entropy of logits [batch, classes] with labels [batch], of which `smoothing` is spread evenly."""

    def loss(labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        target = ops.one_hot(ops.cast(labels, "int32"), logits.shape[-1])
        return keras.losses.categorical_crossentropy(target, logits, from_logits=True, label_smoothing=smoothing)

    return loss


@keras.saving.register_keras_serializable(package="alexnet")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """From near 0 up to `peak` in a straight line, then down to 0 (Smith, Topin: Super-Convergence, 2017).

    Step i of n, from 0, gets the line's value in the middle of the step, so no step is wasted on a rate of 0.
    """

    def __init__(self, peak: float, steps: int, warmup_share: float = 0.25) -> None:
        """
        Args:
            peak: the highest learning rate.
            steps: of the whole training.
            warmup_share: share of the steps before the peak, 0 to 1.
        """
        self.peak, self.steps, self.warmup_share = peak, steps, warmup_share

    def __call__(self, step: keras.KerasTensor) -> keras.KerasTensor:
        done = (ops.cast(step, "float32") + 0.5) / self.steps
        rise = done / max(self.warmup_share, 1e-9)
        fall = (1 - done) / max(1 - self.warmup_share, 1e-9)
        return self.peak * ops.clip(ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict:
        return {"peak": self.peak, "steps": self.steps, "warmup_share": self.warmup_share}


def sgd(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule, momentum: float, weight_decay: float
) -> keras.optimizers.SGD:
    """SGD with Nesterov momentum, and weight decay on kernels only.

    Args:
        learning_rate: a number or a schedule.
        momentum: 0 to 1.
        weight_decay: in the usual sense of an L2 penalty whose gradient goes through the momentum. Keras decays
            beside the momentum, which is weaker by the factor 1 - momentum.
    """
    optimizer = keras.optimizers.SGD(
        learning_rate, momentum=momentum, nesterov=True, weight_decay=weight_decay / (1 - momentum) or None
    )
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer
