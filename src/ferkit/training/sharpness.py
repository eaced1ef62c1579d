"""Steps that look for flat places: sharpness-aware minimisation (Foret et al. 2021).

The gradient is taken where the loss is worst nearby, a step of length rho uphill, and applied where the weights were. It
costs a second pass forward and back. Keras has no step with two gradients, so this one is TensorFlow's.
"""

from typing import Any

from ferkit.devices import replicas, summed
from ferkit.errors import UsageError
from ferkit.keras_backend import load_keras


def sharpness_aware(inputs: Any, augment: Any, network: Any, rho: float) -> Any:
    """A model over `network(augment(inputs))` whose training steps are sharpness-aware.

    Both passes of a step see the same augmented faces. rho: length of the step uphill, over all weights together.
    Raises `UsageError` on another backend than TensorFlow.
    """
    keras = load_keras()
    if keras.backend.backend() != "tensorflow":
        raise UsageError(f"sharpness needs TensorFlow. Received: {keras.backend.backend()}. Leave sharpness at 0.")
    import tensorflow as tf

    class SharpnessAware(keras.Model):  # type: ignore[misc, name-defined]
        def train_step(self, data: Any) -> dict[str, Any]:
            faces, targets = data
            varied = augment(faces, training=True)
            weights = network.trainable_weights

            def gradients() -> tuple[Any, Any, Any]:
                with tf.GradientTape() as tape:
                    answers = network(varied, training=True)
                    loss = self.compute_loss(x=faces, y=targets, y_pred=answers)
                return loss, answers, tape.gradient(loss, weights)

            loss, answers, slopes = gradients()
            slopes = summed(slopes)  # uphill for the whole batch
            scale = rho / (tf.linalg.global_norm(slopes) + 1e-12)
            steps = [slope * scale for slope in slopes]
            for weight, step in zip(weights, steps, strict=True):
                weight.assign_add(step)
            _, _, slopes = gradients()
            for weight, step in zip(weights, steps, strict=True):
                weight.assign_sub(step)
            self.optimizer.apply_gradients(zip(slopes, weights, strict=True))
            # Keras has divided it by the number of devices, so that their gradients add up.
            self._loss_tracker.update_state(loss * replicas(), sample_weight=tf.shape(faces)[0])
            return dict(self.compute_metrics(faces, targets, answers))

    return SharpnessAware(inputs, network(augment(inputs)), name="training")
