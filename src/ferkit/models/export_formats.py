"""Export formats, and the synthetic faces that an export is checked on.

Most of the faces are drawn from the principal components of FER-2013 (`docs/LOG.md` has the method): they belong to no
one, are blurred, and vary in light, pose and expression. Some are cropped from the packaged portrait, as sharp as real
faces. A few are noise, which reaches activations that faces do not.
"""

import functools
import importlib.util
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit._support.registry import Registry
from ferkit.errors import MissingDependencyError, ModelError
from ferkit.models.calibration import offsets
from ferkit.models.classifier import EmotionClassifier
from ferkit.models.conversion import convert
from ferkit.models.foreign import AS_IT_IS, SOFTMAX
from ferkit.models.keras_files import KerasNetwork
from ferkit.models.model_files import BEFORE_EXPORT, card_text, embed_card
from ferkit.models.model_folder import INTENDED_USE, KERAS_FILE, ONNX_FILE, sample_picture, write_card
from ferkit.sources import FaceInput, read_image

Faces = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)

EIGENFACES = Path(sample_picture()).with_name("eigenfaces.npz")

# Centre and side of the face in the portrait, cropped as data sets do, in pixels.
_CENTRE, _SIDE = (225.0, 117.0), 120.0


def stored_faces(face_input: FaceInput, count: int = 1000) -> Faces:
    """The faces of the export check, uint8 (count, height, width, channels), the same every time."""
    return np.concatenate([real_looking_faces(face_input, count - count // 16), _noise(face_input, count // 16)])


def real_looking_faces(face_input: FaceInput, count: int) -> Faces:
    """The stored faces without the noise, to calibrate int8 networks on."""
    rng = np.random.default_rng(0)
    portraits = count // 5
    faces = [_drawn(rng) for _ in range(count - portraits)]
    shape = (face_input.width, face_input.height)
    drawn = np.stack([cv2.resize(face, shape, interpolation=cv2.INTER_LINEAR) for face in faces])
    cut = np.stack([_portrait(rng, face_input) for _ in range(max(portraits, 1))])
    if face_input.channels == 1:
        cut = cut @ np.array([0.299, 0.587, 0.114], np.float32)
        both = np.concatenate([drawn, cut[:portraits]])[..., None]
    else:
        tints = rng.uniform(0.8, 1.1, (len(drawn), 1, 1, 3)).astype(np.float32)
        both = np.concatenate([drawn[..., None] * tints, cut[:portraits]])
    return np.asarray(np.clip(np.rint(both), 0, 255), np.uint8)


@functools.cache
def _eigenfaces() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean (48, 48) and components (60, 48, 48), in gray levels."""
    with np.load(EIGENFACES, allow_pickle=False) as stored:
        components = stored["components"].astype(np.float32) * stored["scale"][:, None, None]
        return stored["mean"].astype(np.float32), components


def _drawn(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    mean, components = _eigenfaces()
    weights = rng.standard_normal(len(components)).astype(np.float32)
    face = mean + np.tensordot(weights, components, axes=1)
    # Few components make blurred faces, so their edges are amplified.
    return np.asarray(2 * face - cv2.GaussianBlur(face, (0, 0), 1.5), np.float32)


def _portrait(rng: np.random.Generator, face_input: FaceInput) -> npt.NDArray[np.float32]:
    """The face of the portrait, randomly rotated, moved, scaled, mirrored and lit: float32 (height, width, 3)."""
    side = _SIDE * rng.uniform(0.75, 1.25)
    x, y = np.add(_CENTRE, rng.uniform(-0.1, 0.1, 2) * side)
    size = np.array([face_input.width, face_input.height])
    shrink = size.max() / side
    turn = cv2.getRotationMatrix2D((x, y), rng.uniform(-20, 20), shrink)
    turn[:, 2] += size / 2 - (x, y)
    picture = _read_portrait()
    if shrink < 1:
        # Else fine detail becomes noise.
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.5 / shrink), np.float32)
    face = cv2.warpAffine(picture, turn, (int(size[0]), int(size[1])), borderMode=cv2.BORDER_REPLICATE)
    if rng.random() < 0.5:
        face = face[:, ::-1]
    return np.asarray((face - 128) * rng.uniform(0.5, 1.3) + 128 + rng.uniform(-40, 40), np.float32)


@functools.cache
def _read_portrait() -> npt.NDArray[np.float32]:
    return read_image(sample_picture()).astype(np.float32)


def kind_of_face(index: int, count: int) -> str:
    """What a stored face is, by its place among `count`."""
    noise = count - count // 16
    if index >= noise:
        return "a picture of noise"
    return "a crop of the sample portrait" if index >= noise - noise // 5 else "a synthetic face"


def _noise(face_input: FaceInput, count: int) -> Faces:
    """Noise at three sizes of detail: fine, coarse and flat."""
    rng = np.random.default_rng(1)
    shape = (face_input.height, face_input.width, face_input.channels)
    fine = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    coarse = rng.integers(0, 256, (count, 6, 6, shape[2]), dtype=np.uint8)
    coarse = coarse.repeat(-(-shape[0] // 6), axis=1).repeat(-(-shape[1] // 6), axis=2)[:, : shape[0], : shape[1]]
    flat = np.broadcast_to(rng.integers(0, 256, (count, 1, 1, 1), dtype=np.uint8), fine.shape)
    kind = np.arange(count) % 3
    return np.choose(kind[:, None, None, None], [fine, coarse, flat])


# Metrics of the original's card that an exported file carries.
FIGURES = ("split", "truth", "n", "accuracy", "accuracy_ci95", "macro_f1")


@dataclass(frozen=True)
class Original:
    """The model that is exported: its classifier, which has a `keras.Model`, and the path that it lies at."""

    classifier: EmotionClassifier
    path: Path

    @property
    def _network(self) -> KerasNetwork:
        network = self.classifier.network
        if not isinstance(network, KerasNetwork):
            raise ModelError(f"{self.classifier.name} is an export. Use the model folder that it was made from.")
        return network

    @property
    def model(self) -> Any:
        """The network as it was trained: it takes pixels in `pixel_scale`, and gives what `outputs` says."""
        return self._network.model

    @property
    def standard(self) -> Any:
        """The network of pixels 0..255 and probabilities."""
        return self._network.standard

    @property
    def scaling(self) -> str:
        """What Python does with pixels 0..255 before they enter the network, as text behind them."""
        network = self.classifier.network
        if not isinstance(network, KerasNetwork) or network.scale == AS_IT_IS:
            return ""
        scale = network.scale
        mean, std = (values[0] if len(values) == 1 else list(values) for values in (scale.mean, scale.std))
        return f" / {std:g}" if mean == 0 else f" / {std} - numpy.divide({mean}, {std})"

    @property
    def offsets(self) -> list[float] | None:
        """What the sensitivity takes from the log-probabilities; None where there is none."""
        classifier = self.classifier
        return offsets(classifier.card["prior"], classifier.sensitivity) if classifier.sensitivity else None

    @property
    def about(self) -> dict[str, Any]:
        """What the cards of a file and of a folder made from it repeat of the original's."""
        card = self.classifier.card
        known: dict[str, Any] = {key: card[key] for key in ("architecture", "licence") if key in card}
        if figures := card.get("metrics"):
            kept = {key: figures[key] for key in FIGURES if key in figures}
            known["metrics"] = {**kept, "note": BEFORE_EXPORT}
        if self.classifier.sensitivity is not None:
            known |= {"prior": card["prior"], "sensitivity": self.classifier.sensitivity}
        # Its training data, so that `ferkit evaluate` can reject it.
        if data := card.get("training", {}).get("data"):
            known["training"] = {"data": data}
        return known

    def card(self, *, inside: bool) -> dict[str, Any]:
        """The card of the exported file.

        Args:
            inside: Whether the graph contains pixel scaling, sensitivity and temperature. If not, readers of the card
                apply its `temperature`.
        """
        classifier = self.classifier
        temperature, known = classifier.temperature, self.about
        if inside and "sensitivity" in known:
            known["sensitivity_inside"] = known["sensitivity"]
        return {
            "format": 1,
            "classes": list(classifier.classes),
            "face_input": asdict(classifier.face_input),
            **({"temperature": 1.0, "temperature_inside": temperature} if inside else {"temperature": temperature}),
            **({} if inside else {"pixel_scale": self._network.scale.to_card()}),
            **({} if inside or self._network.outputs == SOFTMAX else {"outputs": self._network.outputs}),
            **known,
            "intended_use": INTENDED_USE,
            "ferkit": metadata.version("ferkit"),
        }


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        summary: Its purpose, in a sentence.
        write: Writes the original to a path, with faces to calibrate on (used by int8 only).
        suffix: Suffix of its files.
        run: Five lines that use a file without ferkit, with `{file}`, `{size}`, `{mode}`, `{face}` and `{scale}` to
            fill in.
        rounded: Whether the network is quantized to int8.
    """

    summary: str
    write: Callable[[Original, Path, Faces], None]
    suffix: str
    run: str
    rounded: bool = False

    def instructions(self, path: Path, original: Original) -> str:
        """The five lines for a file, with a face cut out as `face.png`; they print the probability of each emotion."""
        face_input = original.classifier.face_input
        gray = face_input.channels == 1
        return self.run.format(
            file=path.name,
            size=f"({face_input.width}, {face_input.height})",
            mode="L" if gray else "RGB",
            face="[None, ..., None]" if gray else "[None]",
            read="IMREAD_GRAYSCALE" if gray else "IMREAD_COLOR",
            swap=not gray,
            classes=list(original.classifier.classes),
            scale=original.scaling,
        )


_RUN_ONNX = """\
import json, numpy, onnxruntime, PIL.Image
session = onnxruntime.InferenceSession("{file}")
classes = json.loads(session.get_modelmeta().custom_metadata_map["ferkit"])["classes"]
face = numpy.asarray(PIL.Image.open("face.png").convert("RGB"))[None]  # of any size, RGB or gray
print(dict(zip(classes, session.run(None, {{"faces": face}})[0][0].tolist())))"""

_RUN_FIXED = """\
import cv2
network = cv2.dnn.readNetFromONNX("{file}")
face = cv2.resize(cv2.imread("face.png", cv2.{read}), {size}, interpolation=cv2.INTER_AREA)
network.setInput(cv2.dnn.blobFromImage(face, swapRB={swap}))
print(dict(zip({classes}, network.forward()[0].tolist())))"""

_RUN_LITERT = """\
import json, numpy, PIL.Image, zipfile
from ai_edge_litert.interpreter import Interpreter
classes = json.loads(zipfile.ZipFile("{file}").read("ferkit.json"))["classes"]
face = numpy.asarray(PIL.Image.open("face.png").convert("{mode}").resize({size}, PIL.Image.BOX)){face}
print(dict(zip(classes, Interpreter("{file}").get_signature_runner()(faces=face)["probabilities"][0].tolist())))"""

_RUN_KERAS = """\
import json, keras, numpy, PIL.Image, zipfile
model = keras.saving.load_model("{file}", compile=False)
classes = json.loads(zipfile.ZipFile("{file}").read("ferkit.json"))["classes"]
face = numpy.asarray(PIL.Image.open("face.png").convert("{mode}").resize({size}, PIL.Image.BOX)){face}{scale}
print(dict(zip(classes, model.predict(face, verbose=0)[0].tolist())))  # not calibrated: the temperature is in the card"""

_RUN_H5 = _RUN_KERAS.replace(
    'zipfile.ZipFile("{file}").read("ferkit.json")', 'h5py.File("{file}").attrs["ferkit"]'
).replace("import json, keras, numpy, PIL.Image, zipfile", "import h5py, json, keras, numpy, PIL.Image")

_RUN_FOLDER = """\
import json, numpy, onnxruntime, PIL.Image
session = onnxruntime.InferenceSession("{file}/model.onnx")
classes = json.load(open("{file}/card.json", encoding="utf-8"))["classes"]
face = numpy.asarray(PIL.Image.open("face.png").convert("{mode}").resize({size}, PIL.Image.BOX)){face}
print(dict(zip(classes, session.run(None, {{"faces": face}})[0][0].tolist())))  # not calibrated: the temperature is in the card"""


def write_onnx(original: Original, path: Path, faces: Faces) -> None:
    _write_onnx(original, path, None)


def write_fixed(original: Original, path: Path, faces: Faces) -> None:
    _write_onnx(original, path, None, fixed=True)


def write_int8(original: Original, path: Path, faces: Faces) -> None:
    _write_onnx(original, path, faces)


def _write_onnx(original: Original, path: Path, faces: Faces | None, *, fixed: bool = False) -> None:
    network = serving_graph(original.standard, path)
    # Only now: where TensorFlow is missing, `onnx` may be as well, and the line above says what to install.
    import onnx

    from ferkit.models.onnx_graph import describe, for_any_face, for_fixed_faces, quantize

    if faces is not None:
        network = quantize(network, faces)
    finish = for_fixed_faces if fixed else for_any_face
    whole = finish(network, original.classifier.face_input, original.classifier.temperature, original.offsets)
    describe(whole, card_text(original.card(inside=True)))
    onnx.checker.check_model(whole, full_check=True)
    onnx.save(whole, path)


def serving_graph(model: Any, path: Path) -> Any:
    """The network alone as `onnx.ModelProto`, repaired; also leaves it at the path."""
    convert(model, path)
    import onnx

    from ferkit.models.onnx_graph import simplify

    network = simplify(onnx.load(path))
    onnx.save(network, path)
    return network


def write_litert(original: Original, path: Path, faces: Faces) -> None:
    convert(original.standard, path, temperature=original.classifier.temperature, offsets=original.offsets)
    embed_card(path, original.card(inside=True))


def write_folder(original: Original, path: Path, faces: Faces) -> None:
    """A model folder; of an ONNX file one without a Keras network."""
    path.mkdir(exist_ok=True)
    if original.path.suffix.lower() == ".onnx":
        _write_standard(original, path / ONNX_FILE)
    else:
        original.standard.save(path / KERAS_FILE)
        try:
            serving_graph(original.standard, path / ONNX_FILE)
        except MissingDependencyError as problem:
            _log.info("No %s, so this model runs only where Keras is installed: %s", ONNX_FILE, problem)
    classifier = original.classifier
    write_card(
        path,
        classes=classifier.classes,
        face_input=classifier.face_input,
        temperature=classifier.temperature,
        details={**original.about, "made_from": original.path.name},
    )


def _write_standard(original: Original, path: Path) -> None:
    if not importlib.util.find_spec("onnx"):
        raise MissingDependencyError("A model folder of an ONNX file needs onnx: pip install 'ferkit[train]'.")
    import onnx

    from ferkit.models.onnx_graph import standard

    bare = original.classifier.bare
    if bare is None:
        raise ModelError(f"{original.path} is an export. Use the model folder that it was made from.")
    onnx.save(standard(onnx.load(original.path), bare.scale, bare.kind), path)


def write_with_keras(original: Original, path: Path, faces: Faces) -> None:
    original.model.save(path)
    embed_card(path, original.card(inside=False))


FORMATS: Registry[Format] = Registry.of(
    "format",
    {
        "onnx": Format(
            "For ONNX Runtime: faces of any size in, calibrated probabilities out.", write_onnx, ".onnx", _RUN_ONNX
        ),
        "onnx-int8": Format(
            "The same quantized to int8: a quarter of the size, faster on the CPU.",
            write_int8,
            ".onnx",
            _RUN_ONNX,
            True,
        ),
        "onnx-fixed": Format(
            "For OpenCV's dnn, which needs fixed shapes: one face of the network's size at a time.",
            write_fixed,
            ".onnx",
            _RUN_FIXED,
        ),
        "litert": Format(
            "For LiteRT (TensorFlow Lite) on phones and small devices.", write_litert, ".tflite", _RUN_LITERT
        ),
        "keras": Format(
            "The format of Keras: architecture and weights, to train further.", write_with_keras, ".keras", _RUN_KERAS
        ),
        "folder": Format(
            "A model folder of any network: Keras file, serving copy and card.", write_folder, "", _RUN_FOLDER
        ),
        "h5": Format(
            "The older HDF5 file that Keras still reads, as the tutorial writes it.", write_with_keras, ".h5", _RUN_H5
        ),
    },
)
