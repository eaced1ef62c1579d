"""YuNet: a network of 0.2 MB that finds faces and their landmarks."""

import functools
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ferkit._support.parallel import onnx_options
from ferkit.detection.base import AUTO, DETECTORS, RegisteredDetector, drop_overlaps, left_to_right
from ferkit.detection.orientation import turned, turned_back
from ferkit.detection.views import Pixels, View, copies, parts, places
from ferkit.errors import MissingDependencyError, lacks_memory
from ferkit.results import Box, Face, overlaps
from ferkit.sources import RgbImage

NAME = "face_detection_yunet_2023mar.onnx"
_STRIDES = (8, 16, 32)
# x1 y1 x2 y2, five landmarks (x y), score.
_ROW = 15
# How large a face is looked at again, and the least that it may score there.
_FACE, _LEAST = 80, 0.5
# What scores less than this is no hint at a face; what is not likely one is a hint only where it is less than so many pixels high.
_HINT, _LIKELY, _SMALL = 0.05, 0.3, 64
# Faces less high than this are placed better in the larger copy.
_REFINED = 40


@DETECTORS.register("auto")
@DETECTORS.register(AUTO)
class YunetDetector(RegisteredDetector):
    """YuNet network: fast, almost no false faces, five landmarks.

    Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector". Run by ONNX Runtime, which gives the faces of
    OpenCV's `FaceDetectorYN` in half the time.
    """

    licence = "MIT"
    # On our scenes, at all sizes, faces score 0.83 and above, what is none, or a person from the side far behind, 0.79 at most.
    min_score = 0.8
    # Of faces on their head or on a side three in ten are taken for upright ones, and then they score 0.91 at most; the
    # same face turned upright scores more by 0.03 and above, and one that is upright never more (`benchmarks/DETECTION.md`).
    sure_score = 0.92
    clearly = 0.02

    def __init__(self) -> None:
        path = self.weights()
        if not path.is_file():
            raise MissingDependencyError(
                f"FERKIT_YUNET is {path}, which is not a file. Set it to a {NAME}, or unset it to use the packaged one."
            )
        self._network = _load(path, path.stat().st_mtime_ns)

    def __call__(self, image: RgbImage, /) -> list[Face]:
        height, width = image.shape[:2]
        faces = []
        for rows in self._looked_through(image):
            for row in rows:
                x1, y1, x2, y2 = row[:4]
                box = Box.inside((x1, y1, x2, y2), width, height)
                # On strips of a picture the network places faces that lie beside it.
                if box and box.width * box.height > 0.5 * (x2 - x1) * (y2 - y1):
                    landmarks = tuple((float(x), float(y)) for x, y in row[4:14].reshape(5, 2))
                    faces.append(Face(box, float(row[14]), landmarks))
        standing = [self._standing(face, image) for face in drop_overlaps(faces)]
        return left_to_right([face for face in standing if face is not None])

    def _standing(self, face: Face, image: RgbImage) -> Face | None:
        """The face as it stands: those on their head or a side the network takes for upright ones, but scores lower.

        None where a closer look finds none.
        """
        if face.detection_score >= self.sure_score:
            return face
        view = _around(face, image)
        faces = [_scored(self._network, view, quarters) for quarters in range(4)]
        best = max(range(4), key=lambda quarters: faces[quarters][14])
        if faces[best][14] < self.min_score:
            return None
        if faces[best][14] < faces[0][14] + self.clearly:
            return face
        height, width = image.shape[:2]
        points = turned_back(faces[best][:14].reshape(7, 2), best, *view.pixels.shape[1::-1])
        points = view.in_picture(points)
        box = Box.inside((*points[:2].min(axis=0), *points[:2].max(axis=0)), width, height)
        landmarks = tuple((float(x), float(y)) for x, y in points[2:])
        return face if box is None else Face(box, float(faces[best][14]), landmarks)

    def _looked_through(self, image: RgbImage) -> Iterator[npt.NDArray[np.float64]]:
        """What is found in each view of a picture; in the largest copy, only where the next one hints at small faces."""
        largest, *smaller = copies(image)
        if not smaller:
            yield self._search(largest, self.min_score)
            return
        hinted, *rest = smaller
        rows = np.concatenate([self._search(view, _HINT) for view in parts(hinted, rest[0] if rest else None)])
        wanted = self._hints_at_small_faces(rows[:, 14], (rows[:, 3] - rows[:, 1]) * hinted.scale[1])
        near = [self._search(view, self.min_score) for view in places(largest, hinted, rows[wanted, :4])]
        again = np.concatenate([*near, np.empty((0, _ROW))])
        yield again
        # In a crowd nearly all are found again, and who is found too often counts as too many.
        found = rows[rows[:, 14] >= self.min_score]
        yield found[~_repeated(found, again)]
        for copy, less in itertools.zip_longest(rest, rest[1:]):
            for view in parts(copy, less):
                yield self._search(view, self.min_score)

    def _hints_at_small_faces(
        self, scores: npt.NDArray[np.float64], heights: npt.NDArray[np.float64]
    ) -> npt.NDArray[np.bool_]:
        """What a larger copy may show better: small faces that were found, and what may be one, (N,)."""
        weak = heights < _SMALL
        return np.select([scores >= self.min_score, scores >= _LIKELY], [heights < _REFINED, True], weak)

    def _search(self, view: View, min_score: float) -> npt.NDArray[np.float64]:
        """Faces of a view, (N, 15), in pixels of the picture."""
        rows = find_faces(self._network, view.pixels, min_score)
        rows = rows[~view.cuts(rows[:, :4])]
        rows[:, :14] = view.in_picture(rows[:, :14].reshape(-1, 7, 2)).reshape(-1, 14)
        return rows

    @staticmethod
    def weights() -> Path:
        return Path(os.environ.get("FERKIT_YUNET") or Path(__file__).with_name(NAME))


def _repeated(rows: npt.NDArray[np.float64], again: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows are among others, with a score at least as high: `drop_overlaps` would keep the other."""
    same = (overlaps(rows[:, :4], again[:, :4]) > 0.3) & (again[:, 14] >= rows[:, 14, None])
    return np.asarray(same.any(axis=1), np.bool_)


def _around(face: Face, image: RgbImage) -> View:
    """A face with as much around it, where it is of a size that the network finds best."""
    x, y = (face.box.x1 + face.box.x2) / 2, (face.box.y1 + face.box.y2) / 2
    half = max(face.box.width, face.box.height)
    box = Box.inside((x - half, y - half, x + half, y + half), image.shape[1], image.shape[0]) or face.box
    pixels = image[box.y1 : box.y2, box.x1 : box.x2]
    scale = _FACE / half
    size = max(round(box.width * scale), 1), max(round(box.height * scale), 1)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    pixels = cv2.resize(pixels, size, interpolation=way).astype(np.uint8, copy=False)
    across, down = size[0] / box.width, size[1] / box.height
    return View(pixels, (across, down), (round(box.x1 * across), round(box.y1 * down)), size)


def _scored(network: Any, view: View, quarters: int) -> npt.NDArray[np.float64]:
    """What is found in the middle of a view turned by so many quarters, as a row; of score 0 where nothing is."""
    pixels = turned(view.pixels, quarters)
    rows = find_faces(network, pixels, _LEAST)
    middle = np.array(pixels.shape[1::-1]) / 2
    holds = ((rows[:, :2] < middle) & (middle < rows[:, 2:4])).all(axis=1)
    return rows[holds][0] if holds.any() else np.zeros(_ROW)


def find_faces(network: Any, pixels: Pixels, min_score: float) -> npt.NDArray[np.float64]:
    """Faces in RGB uint8 (H, W, 3): (N, 15) with box x1 y1 x2 y2, five landmarks x y, score; best first."""
    height, width = pixels.shape[:2]
    # The coarsest features are 32 pixels apart.
    padded = cv2.copyMakeBorder(pixels, 0, -height % 32, 0, -width % 32, cv2.BORDER_REPLICATE)
    # Blue first, channel by channel, and floats last: `astype` over all channels at once is slower, and
    # `cv2.dnn.blobFromImage` much slower.
    blue_first = np.empty((3, *padded.shape[:2]), np.uint8)
    cv2.split(padded, list(blue_first[::-1]))
    outputs = network.run(None, {"input": blue_first[None].astype(np.float32)})
    named = dict(zip((output.name for output in network.get_outputs()), outputs, strict=True))
    found = np.concatenate(
        [_decode(named, stride, padded.shape[1] // stride, min_score) for stride in _STRIDES], dtype=np.float64
    )
    corners = np.column_stack([found[:, :2], found[:, 2:4] - found[:, :2]])
    best = cv2.dnn.NMSBoxes(corners.tolist(), found[:, 14].tolist(), min_score, 0.3)
    rows: npt.NDArray[np.float64] = found[np.array(best, int).reshape(-1)]
    return rows


def _decode(
    outputs: dict[str, npt.NDArray[np.float32]], stride: int, columns: int, min_score: float
) -> npt.NDArray[np.float32]:
    """The answers of one resolution that reach the score, as in OpenCV's `FaceDetectorYN`."""
    kinds = ("cls", "obj", "bbox", "kps")
    classes, objects, boxes, points = (outputs[f"{kind}_{stride}"][0] for kind in kinds)
    scores = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
    # Not "score < min": comparisons with NaN are false, and NaN must not pass.
    good = np.flatnonzero((scores >= min_score) & np.isfinite(boxes).all(axis=1) & np.isfinite(points).all(axis=1))
    places = np.column_stack([good % columns, good // columns]).astype(np.float32)
    centres, halves = places + boxes[good, :2], np.exp(boxes[good, 2:]) / 2
    landmarks = points[good].reshape(-1, 5, 2) + places[:, None]
    rows = np.column_stack([centres - halves, centres + halves, landmarks.reshape(-1, 10)]) * stride
    return np.column_stack([rows, scores[good]]).reshape(-1, _ROW)


@functools.lru_cache(maxsize=2)
def _load(path: Path, changed: int) -> Any:
    """One network for all detectors of this process: ONNX Runtime's sessions may be shared by threads."""
    import onnxruntime

    try:
        # From memory: paths need not be text that the runtime can open.
        network = onnxruntime.InferenceSession(
            _any_size(path.read_bytes()), onnx_options(), providers=["CPUExecutionProvider"]
        )
    except Exception as trouble:  # ONNX Runtime's errors share no base but Exception
        if lacks_memory(trouble):
            raise MemoryError(str(trouble)) from trouble
        raise _not_yunet(path) from trouble
    names = {output.name for output in network.get_outputs()}
    if not {f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in _STRIDES} <= names:
        raise _not_yunet(path)
    return network


def _not_yunet(path: Path) -> MissingDependencyError:
    return MissingDependencyError(f"{path} is not a readable YuNet network. Expected {NAME}.")


def _any_size(weights: bytes) -> bytes:
    """The same network for pictures of any size: the published file declares 640x640, though nothing in it needs that.

    In the file two dimensions read "the value 640"; they become the names "h" and "w", which take as many bytes.
    """
    fixed = b"\x0a\x03\x08\x80\x05" * 2
    return weights.replace(fixed, b"\x0a\x03\x12\x01h\x0a\x03\x12\x01w", 1)
