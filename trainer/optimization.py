"""Loss, learning rate and optimizer. Pure Keras."""

from __future__ import annotations

from collections.abc import Callable, Collection

import keras
from keras import ops

NOT_DECAYED = ["bias", "beta", "gamma"]  # names of the variables that only shift or scale
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan's coefficients: fast at first, singular values of about 0.7 to 1.2
NEWTON_SCHULZ_STEPS = 3


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
    optimizer = keras.optimizers.SGD(**_options(learning_rate, momentum, weight_decay))
    optimizer.exclude_from_weight_decay(var_names=NOT_DECAYED)
    return optimizer


def _options(
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule, momentum: float, weight_decay: float
) -> dict[str, object]:
    """For keras.optimizers.SGD, see `sgd`."""
    return {
        "learning_rate": learning_rate,
        "momentum": momentum,
        "nesterov": True,
        "weight_decay": weight_decay / (1 - momentum) or None,
    }


def muon(
    learning_rate: keras.optimizers.schedules.LearningRateSchedule,
    momentum: float,
    weight_decay: float,
    share: float,
    hidden: Collection[keras.Variable],
) -> Muon:
    """`sgd` for all variables but the kernels `hidden`, which Muon changes at `share` times the learning rate.

    Muon computes in bfloat16 if the global dtype policy of now does.
    """
    optimizer = Muon(
        [variable.path for variable in hidden],
        share,
        "bfloat16" if keras.config.dtype_policy().compute_dtype == "bfloat16" else "float32",
        **_options(learning_rate, momentum, weight_decay),
    )
    optimizer.exclude_from_weight_decay(var_list=list(hidden), var_names=NOT_DECAYED)
    return optimizer


@keras.saving.register_keras_serializable(package="alexnet")
class Muon(keras.optimizers.SGD):
    """Muon for the kernels between the first layer and the last, SGD for everything else.

    Jordan et al.: Muon, an optimizer for hidden layers in neural networks (2024), with details of airbench94_muon.
    A kernel is a matrix, [inputs, outputs]. Its step is the Nesterov momentum of its gradient with all singular
    values made nearly equal, so that the directions which the gradient hardly shows are learned, too. The kernel is
    kept at a norm of 1 for each output, so it needs a batch normalization after it and no decay.

    keras.optimizers.Muon leaves convolutions to AdamW.
    """

    def __init__(self, hidden: Collection[str], share: float, precision: str = "float32", **kwargs: object) -> None:
        """
        Args:
            hidden: paths of the variables for Muon, each of two dimensions or more, the last one of outputs.
            share: what part of the learning rate Muon uses.
            precision: dtype of its arithmetic, float32 or, at half the time, bfloat16.
            **kwargs: of keras.optimizers.SGD; `momentum`, which must not be 0, is Muon's, too.
        """
        super().__init__(**kwargs)
        self.hidden, self.share, self.precision = tuple(hidden), share, precision

    def build(self, variables: list[keras.Variable]) -> None:
        """See keras.optimizers.Optimizer."""
        super().build(variables)
        self._muons = tuple(at for at, variable in enumerate(variables) if variable.path in self.hidden)

    def update_step(
        self, gradient: keras.KerasTensor, variable: keras.Variable, learning_rate: keras.KerasTensor
    ) -> None:
        """See keras.optimizers.Optimizer."""
        at = self._get_variable_index(variable)
        if at not in self._muons:
            super().update_step(gradient, variable, learning_rate)
            return
        momentum = self.momentums[at]
        self.assign(momentum, self.momentum * momentum + gradient)
        outputs = variable.shape[-1]
        matrix = ops.reshape(gradient + self.momentum * momentum, [-1, outputs])
        step = ops.reshape(orthogonalized(matrix, self.precision), variable.shape)
        kept = variable * (outputs**0.5 / ops.sqrt(ops.sum(ops.square(variable))))
        self.assign(variable, kept - ops.cast(learning_rate * self.share, variable.dtype) * step)

    def get_config(self) -> dict:
        """See keras.optimizers.Optimizer."""
        return {**super().get_config(), "hidden": self.hidden, "share": self.share, "precision": self.precision}


def orthogonalized(matrix: keras.KerasTensor, precision: str = "float32") -> keras.KerasTensor:
    """The matrix [a, b] with singular values near 1 instead of its own, by Newton and Schulz's iteration.

    Computed in the dtype `precision`, returned in the matrix' own.
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix  # the products are of the smaller side then
    x = ops.cast(x / (ops.sqrt(ops.sum(ops.square(x))) + 1e-7), precision)
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    x = ops.cast(x, matrix.dtype)
    return ops.transpose(x) if tall else x
