"""Which share of faces is found, by their size and the picture's; what is invented; how long it takes.

Faces are cut from photographs with what surrounds them, and pasted at many sizes into a landscape, as many as fit.
A face is as high as its box in the photograph, from the forehead to the chin. It counts as found where a box overlaps
the right place by half, and every other box counts as false.

    python benchmarks/detection_sizes.py ../shared/scenes                    # about five minutes
    python benchmarks/detection_sizes.py ../shared/scenes --detector haar

SCENES holds pictures and MANIFEST.csv with the columns file and frontal_faces; one of them has no face.
Figures: `benchmarks/DETECTION.md`.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from _shared import Cost, options_of, read_scenes, take_turns
from ferkit.detection import FaceDetector, load_detector
from ferkit.detection.orientation import face_turned_back, find_in_any_orientation, turned
from ferkit.detection.yunet import YunetDetector
from ferkit.results import Box, Face
from ferkit.sources import RgbImage
from ferkit.sources.images import read_image

# 0.3, 2, 12, 48 and 100 megapixels.
PICTURES = ((640, 480), (1600, 1200), (4000, 3000), (8000, 6000), (11_600, 8_700))
SIZES = (16, 20, 24, 32, 40, 50, 60, 80, 100, 200, 400, 800, 1500)
# Half the side of what is cut around a face, in heights of the face; its outermost part fades into the landscape.
AROUND, FADE = 0.9, 0.15

Corners = tuple[float, ...]
# By name: a photograph, and how many faces are annotated in it.
Photographs = dict[str, tuple[RgbImage, int]]


@dataclass(frozen=True)
class Cutout:
    """A face in the middle of a square, RGB uint8.

    boxes: x1 y1 x2 y2 of the face, and of other faces that the square shows, in heights of the face, from the middle.
    """

    pixels: RgbImage
    boxes: tuple[Corners, ...]


def cutouts(image: RgbImage, faces: Sequence[Face]) -> Iterator[Cutout]:
    for face in faces:
        box, half = face.box, round(face.box.height * AROUND)
        x, y = (box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2
        padded = np.pad(image, ((half, half), (half, half), (0, 0)), mode="edge")
        everyone = (face, *(other for other in faces if other is not face))
        corners = [(np.array(one.box.to_list()) - [x, y, x, y]) / box.height for one in everyone]
        yield Cutout(padded[y : y + 2 * half, x : x + 2 * half], tuple(map(tuple, corners)))


def paste(canvas: RgbImage, one: Cutout, height: int, x: int, y: int) -> list[Box]:
    """Draw a face of that height with its middle at x, y; returns its box, and those of its neighbours in the cutout."""
    side = max(round(2 * AROUND * height), 2)
    pixels = square(one.pixels, side)
    ramp = np.clip((1 - np.abs(np.linspace(-1, 1, side))) / FADE, 0, 1)
    opaque = np.minimum.outer(ramp, ramp)[..., None]
    left, top = x - side // 2, y - side // 2
    rows, columns = np.arange(max(top, 0), top + side), np.arange(max(left, 0), left + side)
    rows, columns = rows[rows < canvas.shape[0]], columns[columns < canvas.shape[1]]
    place, part = np.ix_(rows, columns), np.ix_(rows - top, columns - left)
    canvas[place] = (canvas[place] * (1 - opaque[part]) + pixels[part] * opaque[part]).astype(np.uint8)
    corners = [np.array(box) * height + [x, y, x, y] for box in one.boxes]
    boxes = [Box.inside(four.tolist(), canvas.shape[1], canvas.shape[0]) for four in corners]
    return [box for box in boxes if box]


def composites(
    faces: Sequence[Cutout], landscape: RgbImage, size: tuple[int, int], height: int
) -> Iterator[tuple[RgbImage, list[list[Box]]]]:
    """Pictures of that size with faces of that height on a grid, until each face was shown once.

    With each picture come, for each of its faces, its box and those of its neighbours.
    """
    cell = round(2 * AROUND * height) + 2
    columns, rows = max(size[0] // cell, 1), max(size[1] // cell, 1)
    spots = [((column + 0.5) / columns, (row + 0.5) / rows) for row in range(rows) for column in range(columns)]
    spots = [spots[i] for i in np.random.default_rng(0).permutation(len(spots))]
    waiting = list(faces)
    while waiting:
        canvas = cv2.resize(landscape, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
        yield (
            canvas,
            [
                paste(canvas, waiting.pop(), height, round(across * size[0]), round(down * size[1]))
                for across, down in spots[: len(waiting)]
            ],
        )


def square(image: RgbImage, side: int) -> RgbImage:
    way = cv2.INTER_AREA if side < len(image) else cv2.INTER_CUBIC
    return cv2.resize(image, (side, side), interpolation=way).astype(np.uint8, copy=False)


def resized(image: RgbImage, factor: float) -> RgbImage:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=way).astype(np.uint8, copy=False)


def recall(detector: FaceDetector, faces: Sequence[Cutout], landscape: RgbImage) -> None:
    print("\nshare of faces found, by the height of the face (false boxes in brackets)")
    print(f"{'picture':<14}" + "".join(f"{size:>9}" for size in SIZES))
    for size in PICTURES:
        line = f"{size[0]}x{size[1]:<9}"
        for height in SIZES:
            if height > size[1]:
                continue
            found = false = 0
            for image, places in composites(faces, landscape, size, height):
                boxes = [face.box for face in detector(image)]
                found += sum(any(box.overlap(place[0]) > 0.5 for box in boxes) for place in places)
                known = [box for place in places for box in place]
                best = [max(boxes, key=one.overlap, default=one) for one in known]
                false += len(set(boxes) - {box for box, one in zip(best, known, strict=True) if box.overlap(one) > 0.2})
            line += f"{found / len(faces):>6.0%}" + (f" ({false})"[:4] if false else "   ")
        print(line, flush=True)


def filled(detector: FaceDetector, faces: Sequence[Cutout]) -> None:
    print("\nshare of faces found that fill a picture of that side from forehead to chin")
    sides = (48, 100, 300, 600, 1200, 2400, 4800)
    counts = []
    for side in sides:
        count = 0
        for one in faces:
            middle, half = len(one.pixels) // 2, round(len(one.pixels) / AROUND / 4)
            face = one.pixels[middle - half : middle + half, middle - half : middle + half]
            count += len(detector(square(face, side))) == 1
        counts.append(count)
    print("  ".join(f"{side}: {count / len(faces):.0%}" for side, count in zip(sides, counts, strict=True)))


def invented(detector: FaceDetector, pictures: Photographs) -> None:
    print("\nfaces found in the photographs (annotated), shrunk and enlarged")
    for factor in (0.5, 1, 2, 4):
        counts = {name: (len(detector(resized(image, factor))), real) for name, (image, real) in pictures.items()}
        differing = ", ".join(f"{name} {found} ({real})" for name, (found, real) in counts.items() if found != real)
        found, real = (sum(numbers) for numbers in zip(*counts.values(), strict=True))
        print(f"x{factor:<4} {found} of {real}  {differing}")
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in ((480, 640), (60, 80), (3000, 4000))]
    blobs = [cv2.resize(noise[1], (w, h), interpolation=cv2.INTER_CUBIC) for w, h in ((640, 480), (4000, 3000))]
    plain = [np.full((h, w, 3), 128, np.uint8) for h, w in ((480, 640), (3000, 4000), (1, 5000), (5000, 1))]
    false = sum(len(detector(np.asarray(one))) for one in (*noise, *blobs, *plain))
    print("in noise, coarse noise and plain pictures:", false)


def turns(detector: FaceDetector, pictures: Photographs) -> None:
    """Which of the faces that are found upright are found when the picture is turned, and with the right roll."""
    print("\nfaces found in photographs turned clockwise, at four sizes; with their roll right by 30 degrees; others")
    searches: dict[str, FaceDetector] = {"upright": detector, "any": partial(find_in_any_orientation, detector)}
    sizes = [resized(image, factor) for image, _ in pictures.values() for factor in (0.5, 0.7, 1, 1.4)]
    known = [detector(image) for image in sizes]
    for orientation, search in searches.items():
        for quarters in range(4):
            back = -quarters % 4
            found = right = others = 0
            for image, faces in zip(sizes, known, strict=True):
                height, width = image.shape[:2]
                there = [face_turned_back(face, back, width, height) for face in search(turned(image, back))]
                pairs = [(max(there, key=lambda one: one.box.overlap(face.box)), face) for face in faces if there]
                hits = [(one, face) for one, face in pairs if one.box.overlap(face.box) > 0.5]
                found, others = found + len(hits), others + len(there) - len(hits)
                right += sum(abs((one.roll or 0) - (face.roll or 0)) < 30 for one, face in hits)
            count = sum(map(len, known))
            print(
                f"{orientation:<8} {90 * quarters:>3} degrees: {found} of {count} ({found / count:.1%}), "
                f"{right} of them with that roll, {others} others",
                flush=True,
            )


def opencvs_way(image: RgbImage) -> None:
    """The same network as most programs run it: by OpenCV, on the picture shrunk to 1,280 pixels."""
    factor = min(1.0, 1280 / max(image.shape))
    small = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    network = cv2.FaceDetectorYN.create(str(YunetDetector.weights()), "", small.shape[1::-1], 0.8)
    network.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))


def scores(detector: FaceDetector, pictures: Photographs) -> None:
    """What faces score and what is none, at many scales: where `min_score` belongs."""
    searching = YunetDetector()
    searching.min_score = 0.5
    faces: list[tuple[float, str]] = []
    others: list[tuple[float, str]] = []
    for name, (image, _) in pictures.items():
        real = detector(image)
        for factor in (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0):
            for found in searching(resized(image, factor)):
                corners = np.array(found.box.to_list()) / factor
                box = Box.inside(corners.tolist(), image.shape[1], image.shape[0])
                is_face = box is not None and any(box.overlap(one.box) > 0.35 for one in real)
                (faces if is_face else others).append((found.detection_score, name))
    print("\nlowest scores of faces:", ", ".join(f"{score:.2f} {name}" for score, name in sorted(faces)[:5]))
    print("highest of what is none:", ", ".join(f"{score:.2f} {name}" for score, name in sorted(others)[:-7:-1]))


def timing(detector: FaceDetector, landscape: RgbImage, rounds: int) -> None:
    print(f"\nmilliseconds a picture, median of {rounds}, taking turns (and of CPU time)")
    print(f"{'':<17}{'this detector':>18} {'YuNet by OpenCV at 1,280':>26}")
    for width, height in PICTURES:
        image = cv2.resize(landscape, (width, height)).astype(np.uint8, copy=False)
        costs = take_turns({"ours": partial(detector, image), "OpenCV's": partial(opencvs_way, image)}, rounds)
        texts = [_milliseconds(one) for one in costs.values()]
        print(f"{width * height / 1e6:>5.1f} megapixels{texts[0]:>18} {texts[1]:>26}", flush=True)


def _milliseconds(costs: Sequence[Cost]) -> str:
    seconds, cpu = statistics.median(one.seconds for one in costs), statistics.median(one.cpu for one in costs)
    return f"{1000 * seconds:,.0f} ({1000 * cpu:,.0f})"


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("scenes", type=Path)
    parser.add_argument("--detector", default="yunet", help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="timings per picture size (default: %(default)s)")
    parser.add_argument("--only", choices=("recall", "filled", "invented", "turns", "scores", "timing"))
    options = parser.parse_args()

    pictures = {one.path.name: (read_image(one.path), one.faces) for one in read_scenes(options.scenes)}
    landscape = next(image for image, faces in pictures.values() if faces == 0)
    # What is pasted is what YuNet finds in the photographs, whichever detector is measured: all that is annotated.
    known = load_detector("yunet")
    faces = [one for image, _ in pictures.values() for one in cutouts(image, known(image))]
    detector = load_detector(options.detector)
    print(f"{options.detector}: {len(faces)} faces")
    parts: dict[str, Callable[[], None]] = {
        "recall": lambda: recall(detector, faces, landscape),
        "filled": lambda: filled(detector, faces),
        "invented": lambda: invented(detector, pictures),
        "turns": lambda: turns(detector, pictures),
        "scores": lambda: scores(detector, pictures) if options.detector == "yunet" else None,
        "timing": lambda: timing(detector, landscape, options.rounds),
    }
    for name, part in parts.items():
        if options.only in (None, name):
            part()


if __name__ == "__main__":
    main()
