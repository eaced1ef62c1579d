"""The VGG for 48x48 faces of the literature."""

from typing import TYPE_CHECKING

from ferkit.keras_backend import load_keras
from ferkit.models.registry import architecture

if TYPE_CHECKING:
    import keras


@architecture
def vgg(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """The VGG for FER-2013: four stages of two convolutions, of 64, 128, 256 and 512 filters, one dense layer of 512.

    Input: pixels 0..255, (N, 48, 48, 1). Output: probabilities, float32 (N, 7).
    7,053,383 parameters, 471 M multiply-adds per face at 48x48x1 with seven classes: for a GPU.
    Khaireddin & Chen 2021, but for its two dense layers of 4,096, which hold seven times as many weights as all of its
    convolutions and which batch normalisation makes needless. Batch normalisation: Ioffe & Szegedy 2015.

    >>> vgg().count_params()
    7053383
    """
    keras = load_keras()
    layers = keras.layers

    pixels = keras.Input(input_shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for number in (1, 2):
            name = f"stage{stage}_conv{number}"
            # He et al. 2015: variance kept through rectifiers.
            x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal", name=name)(x)
            x = layers.BatchNormalization(name=f"{name}_norm")(x)
            x = layers.Activation(activation, name=f"{name}_activation")(x)
        x = layers.MaxPooling2D(name=f"stage{stage}_pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.5, name="dropout1")(x)
    x = layers.Dense(512, activation=activation, kernel_initializer="he_normal", name="dense")(x)
    x = layers.Dropout(0.5, name="dropout2")(x)
    # float32 also under mixed precision: 16 bits are too few for probabilities and their loss.
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, probabilities, name="vgg")
