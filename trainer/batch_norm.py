"""Batch normalization that trains several times as fast on TensorFlow."""

from __future__ import annotations

import keras
from keras import layers, ops


@keras.saving.register_keras_serializable(package="alexnet")
class FusedBatchNormalization(layers.BatchNormalization):
    """Keras' own, with the one operation that TensorFlow has for the training of it.

    Keras computes moments and result from elementary operations in float32. On a CPU that takes 5 to 7 times as long
    as the fused operation of oneDNN and was most of the time of a training. On other backends, outside training and
    when synchronized over devices this is Keras' own, and so are the weights; only the moving variance differs a
    little, since it is that of the population (n - 1 in the denominator).
    """

    def call(
        self, inputs: keras.KerasTensor, training: bool | None = None, mask: keras.KerasTensor | None = None
    ) -> keras.KerasTensor:
        able = keras.backend.backend() == "tensorflow" and len(inputs.shape) == 4 and not self.synchronized
        if not (able and training and self.trainable):
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf  # here, for the sake of the other backends

        result = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=ops.cast(self.gamma, "float32"),
            offset=ops.cast(self.beta, "float32"),
            mean=[],
            variance=[],
            epsilon=self.epsilon,
        )
        for moving, new in (
            (self.moving_mean, result.batch_mean),
            (self.moving_variance, result.batch_variance),
        ):
            moving.assign(moving * self.momentum + new * (1 - self.momentum))
        return result.y
