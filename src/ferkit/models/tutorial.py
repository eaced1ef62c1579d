"""The network of the tutorial."""

from typing import TYPE_CHECKING

from ferkit.keras_backend import load_keras
from ferkit.models.registry import architecture

if TYPE_CHECKING:
    import keras


@architecture
def tutorial(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """The tutorial's CNN: three convolution blocks of 32, 64, 128 filters and one dense layer of 128.

    Input: pixels 0..255, (N, 48, 48, 1). Output: probabilities, float32 (N, 7).
    684,935 parameters, 22.5 M multiply-adds per face at 48x48x1 with seven classes.
    Batch normalisation: Ioffe & Szegedy 2015; dropout: Srivastava et al. 2014.

    >>> tutorial().count_params()
    684935
    """
    keras = load_keras()
    layers = keras.layers

    pixels = keras.Input(input_shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    for block, filters in enumerate((32, 64, 128), start=1):
        x = layers.Conv2D(filters, 3, padding="same", name=f"conv{block}")(x)
        x = layers.BatchNormalization(name=f"norm{block}")(x)
        x = layers.Activation(activation, name=f"activation{block}")(x)
        x = layers.MaxPooling2D(name=f"pool{block}")(x)
        x = layers.Dropout(0.25, name=f"dropout{block}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, name="dense")(x)
    x = layers.BatchNormalization(name="norm4")(x)
    x = layers.Activation(activation, name="activation4")(x)
    x = layers.Dropout(0.5, name="dropout4")(x)
    # float32 also under mixed precision: 16 bits are too few for probabilities and their loss.
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, probabilities, name="tutorial")
