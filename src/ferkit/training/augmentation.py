"""Random geometry as one affine transform per face, photometry as one multiply-add, a patch left out, poor pictures.

Chance is kept apart from arithmetic: numbers are drawn first, then applied.

It runs as a layer in front of the network, inside the compiled training step, on whichever device and backend Keras
uses. Rotation, shear, zoom, shift and flip are multiplied into one matrix, so each face is interpolated once. Blur and
lower resolution are sums over rows and over columns, hence two small matrix products per face.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ferkit._support.keras_backend import load_keras
from ferkit.training.values import Between, OneOf, settle, value

if TYPE_CHECKING:
    import keras

    Tensor = Any

# How far the poor pictures of `blur`, `noise` and `coarse` go, each uniform from nothing to this.
_BLUR = 2 / 48  # sigma as a share of the height
_NOISE = 0.12  # standard deviation as a share of 255
_COARSE = 4.0  # pixels of the original per pixel, along each side


_SHARE: dict[str, Any] = {"least": 0, "most": 1}


@dataclass(frozen=True)
class Augmentation:
    """How far faces are varied in training. Every range is symmetric; 0 switches that part off.

    Outside the picture the nearest edge pixel is repeated. Values:
    """

    rotation: float = value(
        0.0, "Rotation in degrees, uniform in [-rotation, rotation].", least=0, search=Between(0, 30)
    )
    # The `shear_range` of Keras' ImageDataGenerator is in degrees too.
    shear: float = value(0.0, "Shear in degrees, uniform in [-shear, shear].", least=0, search=Between(0, 20))
    zoom: float = value(
        0.0,
        "Scaling of each axis separately, uniform in [1 - zoom, 1 + zoom].",
        least=0,
        below=1,
        search=Between(0, 0.3),
    )
    shift: float = value(
        0.0, "Shift as a fraction of height and width, uniform in [-shift, shift].", least=0, search=Between(0, 0.2)
    )
    flip: bool = value(False, "Mirror half of the faces horizontally.", search=OneOf((False, True)))
    contrast: float = value(
        0.0,
        "Contrast: factor around the mean of the face, uniform in [1 - contrast, 1 + contrast].",
        least=0,
        search=Between(0, 0.5),
    )
    brightness: float = value(
        0.0,
        "Brightness: added gray levels as a fraction of 255, uniform in [-brightness, brightness].",
        least=0,
        search=Between(0, 0.3),
    )
    erase: float = value(
        0.0,
        "Random erasing: share of faces in which a rectangle (2 to 20% of the image) is filled with a random gray (Zhong et al. 2020).",
        **_SHARE,
        search=Between(0, 0.5),
    )
    blur: float = value(0.0, "Share of faces with Gaussian blur, sigma up to 2 pixels of 48.", **_SHARE)
    noise: float = value(
        0.0,
        "Share of faces with Gaussian noise on every pixel and channel, its standard deviation up to 0.12 of 255.",
        **_SHARE,
    )
    coarse: float = value(
        0.0,
        "Share of faces that are downsampled, to a quarter of each side at the least, and enlarged again.",
        **_SHARE,
    )

    def __post_init__(self) -> None:
        settle(self)

    @property
    def moves(self) -> bool:
        return bool(self.rotation or self.shear or self.zoom or self.shift or self.flip)

    @property
    def lights(self) -> bool:
        return bool(self.contrast or self.brightness)

    @property
    def degrades(self) -> bool:
        return bool(self.blur or self.noise or self.coarse)


def affine_transforms(
    rotation: "Tensor", shear: "Tensor", zoom: "Tensor", shift: "Tensor", flip: "Tensor", height: int, width: int
) -> "Tensor":
    """Matrices that map each output pixel to where it is read, (N, 8) float32 as `keras.ops.image.affine_transform` wants.

    rotation, shear: radians, (N,). zoom: (N, 2) for x and y. shift: (N, 2) in pixels. flip: (N,), -1 mirrors, 1 does
    not.
    Composed about the centre as rotation x shift x shear x zoom, the order of Keras' ImageDataGenerator.
    """
    ops = load_keras().ops
    cos, sin = ops.cos(rotation), ops.sin(rotation)
    # rotation x shear, written out: a 2x2 product per face is cheaper as arithmetic than as a batched matmul.
    shear_x, shear_y = -ops.sin(shear), ops.cos(shear)
    a, b = cos, cos * shear_x - sin * shear_y
    c, d = sin, sin * shear_x + cos * shear_y
    offset_x = cos * shift[:, 0] - sin * shift[:, 1]
    offset_y = sin * shift[:, 0] + cos * shift[:, 1]
    a, b = a * zoom[:, 0] * flip, b * zoom[:, 1]
    c, d = c * zoom[:, 0] * flip, d * zoom[:, 1]
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    offset_x = offset_x + center_x - a * center_x - b * center_y
    offset_y = offset_y + center_y - c * center_x - d * center_y
    none = ops.zeros_like(a)
    return ops.stack([a, b, offset_x, c, d, offset_y, none, none], axis=1)


def patches(area: "Tensor", aspect: "Tensor", center: "Tensor", height: int, width: int) -> "Tensor":
    """Rectangles as masks, bool (N, height, width, 1).

    area: share of the picture, (N,). aspect: height over width, (N,). center: (N, 2) from 0 to 1, down and across; what
    stands over the edge is cut off.
    """
    ops = load_keras().ops
    side = ops.sqrt(area)
    inside = []
    for length, share, place in (
        (height, side * ops.sqrt(aspect), center[:, 0]),
        (width, side / ops.sqrt(aspect), center[:, 1]),
    ):
        middles = (ops.arange(length, dtype="float32") + 0.5) / length
        inside.append(ops.abs(middles[None] - place[:, None]) < share[:, None] / 2)
    return ops.logical_and(inside[0][:, :, None, None], inside[1][:, None, :, None])


def blurring(sigma: "Tensor", length: int) -> "Tensor":
    """What each pixel of a blurred line takes of the pixels of the line, float32 (N, length, length), rows sum to 1.

    sigma: standard deviation of the Gaussian in pixels, (N,); 0 leaves the line as it is.
    """
    ops = load_keras().ops
    places = ops.arange(length, dtype="float32")
    squares = ops.square(places[:, None] - places[None])
    # At a sigma of 0 the others' share must be 0 and not 0 / 0.
    weights = ops.exp(-squares[None] / (2 * ops.square(ops.maximum(sigma, 1e-2))[:, None, None]))
    return weights / ops.sum(weights, axis=2, keepdims=True)


def coarsening(step: "Tensor", length: int) -> "Tensor":
    """The same for a line of fewer, larger pixels that is enlarged again, float32 (N, length, length), rows sum to 1.

    step: pixels of the line per larger pixel, (N,), at least 1, which leaves the line as it is. Larger pixels are the
    mean of what they cover; between their middles it is interpolated linearly, beyond the outermost ones repeated.
    """
    ops = load_keras().ops
    step = step[:, None, None]
    pixels = ops.arange(length, dtype="float32")
    larger = pixels[None, :, None]
    covered = ops.minimum((larger + 1) * step, pixels + 1) - ops.maximum(larger * step, pixels)
    covered = ops.maximum(covered, 0.0)
    means = covered / ops.maximum(ops.sum(covered, axis=2, keepdims=True), 1e-6)
    # The last larger pixel may reach over the end; one that begins there covers nothing and is left out.
    last = ops.ceil(length / step - 1e-4) - 1
    places = ops.clip((pixels[None, :, None] + 0.5) / step - 0.5, 0.0, last)
    weights = ops.maximum(1 - ops.abs(places - pixels[None, None]), 0.0)
    return ops.matmul(weights, means)


def seen_through(faces: "Tensor", down: "Tensor", across: "Tensor") -> "Tensor":
    """Faces (N, height, width, channels) whose columns and rows are mixed by (N, height, height) and (N, width, width)."""
    ops = load_keras().ops
    return ops.einsum("nyv,nvxc->nyxc", down, ops.einsum("nxu,nyuc->nyxc", across, faces))


def augmenter(augmentation: Augmentation, seed: int) -> "keras.Layer":
    """A layer that varies faces while training and passes them on, as float32, otherwise.

    Input: pixels 0..255, (N, height, width, channels). Output: float32 of the same shape, still 0..255.
    """
    keras = load_keras()
    ops, random = keras.ops, keras.random

    class Augmenter(keras.layers.Layer):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__(name="augmentation")
            self.seed = random.SeedGenerator(seed)

        def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return input_shape

        def call(self, faces: "Tensor", training: bool = False) -> "Tensor":
            faces = ops.cast(faces, "float32")
            if not training:
                return faces
            if augmentation.moves:
                transforms = self.draw_transforms(ops.shape(faces)[0], *faces.shape[1:3])
                faces = ops.image.affine_transform(faces, transforms, interpolation="bilinear", fill_mode="nearest")
            if augmentation.lights:
                factor, offset = self.draw_light(ops.shape(faces)[0])
                mean = ops.mean(faces, axis=(1, 2, 3), keepdims=True)
                faces = ops.clip((faces - mean) * factor + mean + offset, 0, 255)
            if augmentation.erase:
                mask, grey = self.draw_patches(ops.shape(faces)[0], *faces.shape[1:3])
                faces = ops.where(mask, grey, faces)
            return self.degrade(faces) if augmentation.degrades else faces

        def degrade(self, faces: "Tensor") -> "Tensor":
            n, (height, width) = ops.shape(faces)[0], faces.shape[1:3]
            if augmentation.blur:
                sigma = self.draw_strength(n, augmentation.blur) * (_BLUR * height)
                faces = seen_through(faces, blurring(sigma, height), blurring(sigma, width))
            if augmentation.coarse:
                step = 1 + self.draw_strength(n, augmentation.coarse) * (_COARSE - 1)
                faces = seen_through(faces, coarsening(step, height), coarsening(step, width))
            if augmentation.noise:
                deviation = self.draw_strength(n, augmentation.noise) * (_NOISE * 255)
                shape = tuple(faces.shape[1:])
                noise = random.normal((n, *shape), seed=self.seed)
                faces = ops.clip(faces + noise * ops.reshape(deviation, (-1, 1, 1, 1)), 0, 255)
            return faces

        def draw_strength(self, n: Any, share: float) -> "Tensor":
            """From 0 to 1 for the share of faces that is chosen, 0 for the others."""
            draw = random.uniform((n, 2), seed=self.seed)
            return ops.where(draw[:, 0] < share, draw[:, 1], 0.0)

        def draw_transforms(self, n: Any, height: int, width: int) -> "Tensor":
            # One draw for all seven numbers of a face: random calls cost more than the arithmetic.
            draw = random.uniform((n, 7), -1.0, 1.0, seed=self.seed)
            radians = 3.141592653589793 / 180
            return affine_transforms(
                rotation=draw[:, 0] * (augmentation.rotation * radians),
                shear=draw[:, 1] * (augmentation.shear * radians),
                zoom=1 + draw[:, 2:4] * augmentation.zoom,
                shift=draw[:, 4:6] * ops.convert_to_tensor([[augmentation.shift * width, augmentation.shift * height]]),
                flip=ops.where(draw[:, 6] < 0, -1.0, 1.0) if augmentation.flip else ops.ones_like(draw[:, 6]),
                height=height,
                width=width,
            )

        def draw_light(self, n: Any) -> tuple["Tensor", "Tensor"]:
            draw = random.uniform((n, 2), -1.0, 1.0, seed=self.seed)
            factor = 1 + draw[:, 0] * augmentation.contrast
            offset = draw[:, 1] * (augmentation.brightness * 255)
            return ops.reshape(factor, (-1, 1, 1, 1)), ops.reshape(offset, (-1, 1, 1, 1))

        def draw_patches(self, n: Any, height: int, width: int) -> tuple["Tensor", "Tensor"]:
            draw = random.uniform((n, 6), seed=self.seed)
            # Zhong et al.: sides at most 1 to 3, as often lying as standing.
            mask = patches(0.02 + 0.18 * draw[:, 0], 3 ** (2 * draw[:, 1] - 1), draw[:, 2:4], height, width)
            chosen = ops.reshape(draw[:, 4] < augmentation.erase, (-1, 1, 1, 1))
            return ops.logical_and(mask, chosen), ops.reshape(draw[:, 5] * 255, (-1, 1, 1, 1))

    return Augmenter()
