"""The recipe: a network behind its augmentation, with loss, optimizer and schedule as the settings say.

Pure Keras: runs on any Keras backend. What it is made of, by setting, and where that is from:

    model.normalization     batch normalization                 Ioffe, Szegedy 2015
    model.dropout           dropout of hidden dense layers      Hinton et al. 2012
    model.views             the mean over views of an image     Krizhevsky et al. 2012, section 4.1
    training.learning_rate  one cycle of SGD's learning rate    Smith, Topin 2017
    training.warmup_share   its rise                            Goyal et al. 2017
    training.momentum       Nesterov momentum                   Sutskever et al. 2013
    training.muon           Muon for the hidden kernels         Jordan et al. 2024
    training.weight_decay   none on biases and gains            He, T. et al. 2019
    training.label_smoothing                                    Szegedy et al. 2016
    training.flip, .shift   mirrored and moved images           Krizhevsky et al. 2012, section 4.1
    training.smallest_crop  parts of images                     Szegedy et al. 2015
    training.cutout         a covered square                    DeVries, Taylor 2017
    training.class_weights  balanced classes                    King, Zeng 2001

The weights start as He, K. et al. 2015 have it. What each is worth: docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np
from keras import ops

from trainer import augmentation, metrics, optimization

if TYPE_CHECKING:
    from core.settings import Training


def learner(
    network: keras.Model, settings: Training, steps: int, jit: bool | str = "auto", steps_per_call: int = 1
) -> metrics.Learner:
    """The network behind its augmentation, compiled. Only this is trained, only the network is kept.

    Args:
        network: from uint8 images to logits.
        settings: the recipe.
        steps: in an epoch.
        jit: whether XLA compiles the step; "auto" is what Keras does on its backend.
        steps_per_call: training steps between two looks at the loss.
    """
    # With a seed that another layer has, what is drawn here would follow from what is drawn there.
    crop = [augmentation.RandomCrop(settings.smallest_crop, settings.seed + 2)] if settings.smallest_crop < 1 else []
    learner = metrics.Learner(
        [
            keras.Input(network.input_shape[1:], dtype="uint8"),
            *crop,
            augmentation.FlipAndShift(settings.flip, settings.shift, settings.seed),
            # With the same seed the place of the square would follow from the shift.
            augmentation.Cutout(settings.cutout, mean_colour(network), settings.seed + 1),
            network,
        ],
        classes=network.output_shape[-1],
    )
    schedule = optimization.OneCycle(settings.learning_rate, settings.epochs * steps, settings.warmup_share)
    learner.compile(
        optimizer(network, settings, schedule),
        loss=optimization.smoothed_crossentropy(settings.label_smoothing),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=jit,
        steps_per_execution=steps_per_call,
    )
    return learner


def optimizer(
    network: keras.Model, settings: Training, schedule: keras.optimizers.schedules.LearningRateSchedule
) -> keras.optimizers.Optimizer:
    """What changes the network's weights."""
    if not settings.muon:
        return optimization.sgd(schedule, settings.momentum, settings.weight_decay)
    _, *hidden, _ = (layer.kernel for layer in network.layers if hasattr(layer, "kernel"))
    share = settings.muon / settings.learning_rate
    return optimization.muon(schedule, settings.momentum, settings.weight_decay, share, hidden)


def class_weights(counts: Sequence[int]) -> list[float]:
    """What an example of each class counts in the loss, so that all classes count the same and the mean example is 1.

    As scikit-learn's "balanced": n / (k * n_c) of n examples, k classes that have any, n_c of the class.
    """
    examples, classes = sum(counts), sum(count > 0 for count in counts)
    return [examples / (classes * count) if count else 0.0 for count in counts]


def mean_colour(network: keras.Model) -> list[float]:
    """Of the training images, as the network's first layer has it, in pixels 0 to 255."""
    return np.ravel(ops.convert_to_numpy(network.get_layer("normalize").mean)).tolist()
