"""Architectures by name: untrained networks for small faces, and those of `keras.applications` for fine-tuning."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from ferkit._support.keras_backend import load_keras
from ferkit._support.registry import Registry
from ferkit.models import pretrained

if TYPE_CHECKING:
    import keras


class Architecture(Protocol):
    """Build an untrained network. Every architecture takes these three.

    Args:
        num_classes: How many probabilities it gives.
        input_shape: Height, width and channels (1 or 3) of a face.
        activation: Of its hidden layers, by Keras' name; pretrained networks keep "relu".

    Returns:
        A network that takes pixels 0 to 255 in any number type, (N, height, width, channels): scaling is its first
        layer. It gives probabilities, float32 (N, num_classes); rows sum to 1.

    Raises:
        UsageError: The network keeps its activation, and another one was given.
    """

    def __call__(
        self, num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
    ) -> "keras.Model": ...


ARCHITECTURES: Registry[Architecture] = Registry("model")


def architecture(build: Architecture) -> Architecture:
    """Register an architecture under its function's name."""
    name: str = getattr(build, "__name__", "")
    register: Callable[[Architecture], Architecture] = ARCHITECTURES.register(name)
    return register(build)


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


@architecture
def compact(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """A small residual network: five blocks of 48, 96, 96, 160, 160 filters with squeeze-and-excitation.

    Input: pixels 0..255, (N, 48, 48, 1). Output: probabilities, float32 (N, 7).
    1,207,821 parameters, 97.5 M multiply-adds per face at 48x48x1 with seven classes.
    Residual blocks: He et al. 2016; squeeze-and-excitation: Hu et al. 2018; stochastic depth: Huang et al. 2016;
    averaged shortcuts ("ResNet-D"): He et al. 2019. Their other advice, blocks that start as identity (zero gamma),
    made the first epochs far slower here (docs/LOG.md).

    >>> compact().count_params()
    1207821
    """
    # The stem halves the resolution at once: at 48x48 a training step spends most of its time on element-wise
    # operations.
    return _residual("compact", num_classes, input_shape, activation, stem=(5, 2), blocks=(48, 96, 96, 160, 160))


@architecture
def resnet(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """`compact` at full resolution and wider: six blocks, two each of 64, 128 and 256 filters, as ResNets for CIFAR.

    Input: pixels 0..255, (N, 48, 48, 1). Output: probabilities, float32 (N, 7).
    2,824,247 parameters, 945 M multiply-adds per face at 48x48x1 with seven classes: for a GPU.
    Papers as for `compact`.

    >>> resnet().count_params()
    2824247
    """
    return _residual("resnet", num_classes, input_shape, activation, stem=(3, 1), blocks=(64, 64, 128, 128, 256, 256))


@architecture
def teacher(
    num_classes: int = 7, *, input_shape: tuple[int, int, int] = (48, 48, 1), activation: str = "relu"
) -> "keras.Model":
    """`resnet`, wider and deeper, a teacher for distillation: nine blocks, three each of 96, 192 and 384 filters.

    Input: pixels 0..255, (N, 48, 48, 1). Output: probabilities, float32 (N, 7).
    9,883,459 parameters, 3,272 M multiply-adds per face at 48x48x1 with seven classes: for a GPU.
    Papers as for `compact`; width before depth as in wide residual networks (Zagoruyko & Komodakis 2016).

    >>> teacher().count_params()
    9883459
    """
    blocks = (96, 96, 96, 192, 192, 192, 384, 384, 384)
    return _residual("teacher", num_classes, input_shape, activation, stem=(3, 1), blocks=blocks)


def _residual(
    name: str,
    num_classes: int,
    input_shape: tuple[int, int, int],
    activation: str,
    *,
    stem: tuple[int, int],
    blocks: tuple[int, ...],
) -> "keras.Model":
    """Stem (kernel and stride of its convolution), blocks by their filters, global average pooling, one dense layer."""
    keras = load_keras()
    layers = keras.layers

    pixels = keras.Input(input_shape, name="pixels")
    x = layers.Rescaling(1 / 255, name="scale")(pixels)
    x = _conv(x, blocks[0], kernel=stem[0], stride=stem[1], name="stem")
    x = layers.Activation(activation, name="stem_activation")(x)
    for number, filters in enumerate(blocks, start=1):
        # Stochastic depth: later blocks are left out more often.
        x = _block(x, filters, activation, drop=0.1 * number / len(blocks), name=f"block{number}")
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(0.2, name="dropout")(x)
    # float32 also under mixed precision: 16 bits are too few for probabilities and their loss.
    probabilities = layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(x)
    return keras.Model(pixels, probabilities, name=name)


def _block(x: Any, filters: int, activation: str, *, drop: float, name: str) -> Any:
    """Two convolutions with channel attention, added to a shortcut; halves the resolution where the filters change."""
    layers = load_keras().layers
    widens = x.shape[-1] != filters
    shortcut = x
    if widens:
        # Averaged before the 1x1 convolution, which would otherwise throw three of four pixels away.
        shortcut = layers.AveragePooling2D(2, padding="same", name=f"{name}_shortcut_pool")(shortcut)
        shortcut = _conv(shortcut, filters, kernel=1, name=f"{name}_shortcut")
    x = _conv(x, filters, stride=2 if widens else 1, name=f"{name}_conv1")
    x = layers.Activation(activation, name=f"{name}_activation1")(x)
    x = _conv(x, filters, name=f"{name}_conv2")

    gate = layers.GlobalAveragePooling2D(name=f"{name}_squeeze")(x)
    gate = layers.Dense(filters // 8, activation="relu", name=f"{name}_reduce")(gate)
    gate = layers.Dense(filters, activation="sigmoid", name=f"{name}_excite")(gate)
    # A whole block is left out by dropping all of its gates, which costs nothing.
    gate = layers.Dropout(drop, noise_shape=(None, 1), name=f"{name}_depth")(gate)
    gate = layers.Reshape((1, 1, filters), name=f"{name}_gate")(gate)
    x = layers.Multiply(name=f"{name}_weigh")([x, gate])
    x = layers.Add(name=f"{name}_add")([shortcut, x])
    return layers.Activation(activation, name=f"{name}_activation2")(x)


def _conv(x: Any, filters: int, *, kernel: int = 3, stride: int = 1, name: str) -> Any:
    """Convolution and batch normalisation."""
    layers = load_keras().layers
    # He et al. 2015: variance kept through rectifiers.
    x = layers.Conv2D(
        filters,
        kernel,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=name,
    )(x)
    return layers.BatchNormalization(name=f"{name}_norm")(x)


for _build in pretrained.NETWORKS:
    architecture(_build)
