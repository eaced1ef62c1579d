"""How faces must be cut so that a network trained on FER-2013 knows them: margin and levelled eyes, by its accuracy.

The faces of PublicTest are put into pictures: enlarged to 40 to 400 pixels, turned by up to 20 degrees or not at all,
what surrounds them made up by repeating their edge and fading into a landscape. Detectors find them there, they are cut
with each setting, and the model names them. It was trained on the original cuts, so the nearer a setting comes to those,
the better. Intervals are 95 %: Wilson's for accuracies, and of the mean of differences face by face.

    python benchmarks/crop_margin.py fer2013.csv.gz ../shared/scenes                    # half an hour
    python benchmarks/crop_margin.py fer2013.csv.gz ../shared/scenes --detector haar --faces 1500
    python benchmarks/crop_margin.py fer2013.csv.gz ../shared/scenes --sheet sheet.png  # to look at

SCENES are photographs; in vh_background.jpg is no face. The sheet shows 24 faces of FER-2013, and below them those of
the photographs as the upright box has them and as they are cut now. It holds pictures of persons: do not publish it.
Figures: `benchmarks/DETECTION.md`.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

import ferkit
from ferkit.detection.crops import cut_face
from ferkit.detection.detectors import FaceDetector, load_detector
from ferkit.evaluation.metrics import wilson_interval
from ferkit.results import Box, Face
from ferkit.sources.images import FaceInput, RgbImage, read_image

Cuts = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

SIDE = 48
SIZES, TURN = (40, 400), 20.0
MARGINS = (-0.2, -0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)
SHIFTS = (-0.04, -0.02, 0.02, 0.04)
# What a detector finds is the face if its middle is so near, in sides of the original cut.
NEAR = 0.33


@dataclass(frozen=True)
class Placed:
    """A face in a picture. middle: of the original cut, in the picture. size: its side there. found: by a detector."""

    picture: RgbImage
    middle: Floats
    size: float
    found: Face | None


def place(face: Cuts, landscape: RgbImage, turn: float, rng: np.random.Generator) -> tuple[RgbImage, Floats, float]:
    """A picture with a face (48, 48, 1) in it; the middle and the side of the original cut there."""
    size = float(np.exp(rng.uniform(*np.log(SIZES))))
    middle = size * (1.3 + rng.uniform(-0.1, 0.1, 2))
    side = round(2.6 * size)
    around = np.pad(face[..., 0], SIDE // 2, mode="edge")
    # Eight times as large first: cubic curves for the pixels of FER-2013, areas for those of the picture.
    large = cv2.resize(around, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    near = cv2.resize(large, [max(round(2 * size), 2)] * 2, interpolation=cv2.INTER_AREA)
    ramp = np.clip((1 - np.abs(np.linspace(-1, 1, len(near)))) * 4, 0, 1)
    matrix = np.array(cv2.getRotationMatrix2D(((len(near) - 1) / 2,) * 2, turn, 2 * size / len(near)), np.float64)
    matrix[:, 2] += middle - len(near) / 2
    drawn = cv2.warpAffine(near, matrix, (side, side), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    opaque = cv2.warpAffine(np.minimum.outer(ramp, ramp), matrix, (side, side))
    part = 400
    x, y = rng.integers(0, landscape.shape[1] - part), rng.integers(0, landscape.shape[0] - part)
    behind = cv2.resize(landscape[y : y + part, x : x + part], (side, side)).mean(axis=2)
    mixed = np.clip(drawn * opaque + behind * (1 - opaque), 0, 255).astype(np.uint8)
    return np.repeat(mixed[..., None], 3, axis=2), middle, size


def alone(face: Cuts) -> tuple[RgbImage, Floats, float]:
    """The face as a picture of its own, as data sets come."""
    return np.repeat(face, 3, axis=2), np.full(2, SIDE / 2), SIDE


def middle_of(box: Box) -> Floats:
    return np.array([box.x1 + box.x2, box.y1 + box.y2]) / 2


def detected(
    faces: Cuts, make: Callable[[Cuts], tuple[RgbImage, Floats, float]], detector: FaceDetector
) -> Iterator[Placed]:
    for face in faces:
        picture, middle, size = make(face)
        near = [one for one in detector(picture) if np.abs(middle_of(one.box) - middle).max() < NEAR * size]
        yield Placed(picture, middle, size, max(near, key=lambda one: one.detection_score, default=None))


def moved(face: Face, down: float) -> Face:
    """The face with its box and landmarks moved down by a share of the box's height; inside the picture by luck."""
    step = round(face.box.height * down)
    box = Box(face.box.x1, max(face.box.y1 + step, 0), face.box.x2, face.box.y2 + step)
    return replace(face, box=box, landmarks=face.landmarks and tuple((x, y + step) for x, y in face.landmarks))


def settings() -> Iterator[tuple[str, FaceInput, float]]:
    """Name, how faces are cut, and how far they are moved down before."""
    for align in (False, True):
        name = "eyes levelled" if align else "upright box"
        for margin in MARGINS:
            yield f"{name}, margin {margin:+.2f}", FaceInput(margin=margin, align=align), 0.0
        for down in SHIFTS:
            yield (
                f"{name}, margin -0.05, {abs(down):.2f} {'lower' if down > 0 else 'higher'}",
                FaceInput(margin=-0.05, align=align),
                down,
            )


def compare(name: str, placed: Iterator[Placed], faces: Cuts, labels: npt.NDArray[np.int64], align: bool) -> None:
    """Print accuracy of each setting, on the faces that were found, against that of the original cuts."""
    classifier = ferkit.EmotionClassifier.load()
    chosen = [one for one in settings() if align or not one[1].align]
    cuts: list[list[Cuts]] = [[] for _ in chosen]
    found = np.zeros(len(faces), bool)
    for i, one in enumerate(placed):
        if one.found is None:
            continue
        found[i] = True
        for (_, face_input, down), into in zip(chosen, cuts, strict=True):
            into.append(cut_face(one.picture, moved(one.found, down) if down else one.found, face_input))
    labels = labels[found]
    original = classifier.predict_proba(faces[found]).argmax(axis=1)
    right = original == labels
    print(
        f"\n{name}: {found.sum():,} of {len(faces):,} faces found; {right.mean():.2%} of the original cuts named right"
    )
    print(f"{'':<40}{'accuracy':>9} {'95 % interval':>16} {'difference, points':>24} {'same answer':>12}")
    for (setting, _, _), into in zip(chosen, cuts, strict=True):
        answers = classifier.predict_proba(np.array(into)).argmax(axis=1)
        hits = answers == labels
        low, high = wilson_interval(int(hits.sum()), len(hits))
        difference = (hits.astype(float) - right) * 100
        spread = 1.96 * difference.std() / np.sqrt(len(difference))
        print(
            f"{setting:<40}{hits.mean():>9.2%} {low:>8.2%} {high:>7.2%} "
            f"{difference.mean():>+14.2f} +- {spread:.2f}   {(answers == original).mean():>12.1%}",
            flush=True,
        )


def frame(name: str, placed: Sequence[Placed]) -> None:
    """Print where boxes and landmarks lie in the original cut of 48x48 pixels, and the constants that follow."""
    rows = []
    for one in placed:
        if one.found is None:
            continue
        box, unit = one.found.box, SIDE / one.size
        row = [*((middle_of(box) - one.middle) * unit + SIDE / 2), box.width * unit, box.height * unit]
        if one.found.landmarks:
            points = (np.array(one.found.landmarks) - one.middle) * unit + SIDE / 2
            eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
            row += [*eyes, *mouth, np.linalg.norm([points[1] - points[0], mouth - eyes])]
        rows.append(row)
    names = ("box x", "box y", "box width", "box height", "eyes x", "eyes y", "mouth x", "mouth y", "span")
    quartiles = dict(zip(names, np.percentile(rows, [25, 50, 75], axis=0).T, strict=False))
    print(f"\n{name}: {len(rows):,} faces, in pixels of the original cut: median (quartiles)")
    for key, (low, median, high) in quartiles.items():
        print(f"  {key:<11}{median:>6.1f}  ({low:.1f} to {high:.1f})")
    print(f"  margin that makes the box as high as the cut: {SIDE / quartiles['box height'][1] - 1:+.3f}")
    if "span" in quartiles:
        middle = {key: values[1] for key, values in quartiles.items()}
        print(
            f"  in spans: box {middle['box height'] / middle['span']:.2f} high and {middle['box width'] / middle['span']:.2f} "
            f"wide; middle of the cut {((middle['eyes y'] + middle['mouth y']) / 2 - SIDE / 2) / middle['span']:.3f} above "
            "the middle between eyes and mouth"
        )


def in_scenes(scenes: Path, detector: FaceDetector) -> list[tuple[RgbImage, Face]]:
    photographs = [read_image(path) for path in sorted(scenes.iterdir()) if path.suffix in (".jpg", ".png")]
    return [(image, face) for image in photographs for face in detector(image)]


def in_photographs(found: Sequence[tuple[RgbImage, Face]]) -> None:
    """Print how boxes lie around landmarks in photographs: whether the pictures made up here are like those."""
    rows = []
    for _, face in found:
        points = np.array(face.landmarks)
        eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
        span = np.linalg.norm([points[1] - points[0], mouth - eyes])
        above = (eyes + mouth)[1] / 2 - middle_of(face.box)[1]
        rows.append(np.array([face.box.height, face.box.width, above]) / span)
    high, wide, up = np.median(rows, axis=0)
    print(
        f"photographs: {len(rows)} faces, in spans: box {high:.2f} high and {wide:.2f} wide; its middle {up:.3f} above the "
        "middle between eyes and mouth"
    )


def sheet(faces: Cuts, scenes: Path, detector: FaceDetector, target: Path) -> None:
    """A picture of faces of the data set, and of faces of photographs as they were and are cut."""
    found = in_scenes(scenes, detector)
    chosen = np.random.default_rng(0).choice(len(faces), 24, replace=False)
    rows = [
        ("FER-2013", list(faces[chosen])),
        ("upright box", [cut_face(*one, FaceInput(margin=0.0, align=False)) for one in found]),
        ("as it is cut now", [cut_face(*one, FaceInput()) for one in found]),
    ]
    columns, side, title = 12, 2 * SIDE + 4, 26
    parts = []
    for name, cuts in rows:
        canvas = np.full((title + -(-len(cuts) // columns) * side, columns * side), 255, np.uint8)
        cv2.putText(canvas, name, (4, 19), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 0, 1, cv2.LINE_AA)
        for i, cut in enumerate(cuts):
            y, x = title + i // columns * side, i % columns * side
            canvas[y : y + 2 * SIDE, x : x + 2 * SIDE] = cv2.resize(
                cut, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC
            )
        parts.append(canvas)
    PIL.Image.fromarray(np.concatenate(parts)).save(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="FER-2013, in any form that ferkit reads")
    parser.add_argument("scenes", type=Path, help="folder with photographs")
    parser.add_argument("--detector", default="yunet", help="default: %(default)s")
    parser.add_argument("--faces", type=int, help="the first so many of PublicTest (default: all)")
    parser.add_argument("--only", help="the pictures whose name begins so, such as 'turned by 20'")
    parser.add_argument("--sheet", type=Path, help="write the sheet to this PNG, and nothing else")
    options = parser.parse_args()

    data = ferkit.load_dataset(options.data).val
    faces, labels = data.images[: options.faces], data.labels[: options.faces]
    detector = load_detector(options.detector)
    if options.sheet:
        sheet(faces, options.scenes, detector, options.sheet)
        return
    if options.detector != "haar":
        in_photographs(in_scenes(options.scenes, detector))
    landscape = read_image(options.scenes / "vh_background.jpg")
    ways: dict[str, Callable[[Cuts], tuple[RgbImage, Floats, float]]] = {
        "upright": lambda face: place(face, landscape, 0.0, rng),
        "turned by up to 20 degrees": lambda face: place(face, landscape, rng.uniform(-TURN, TURN), rng),
        "turned by 20 to 45 degrees": lambda face: place(
            face, landscape, rng.choice([-1, 1]) * rng.uniform(20, 45), rng
        ),
        "as pictures of their own": alone,
    }
    for name, make in ways.items():
        if options.only and not name.startswith(options.only):
            continue
        rng = np.random.default_rng(1)
        placed = detected(faces, make, detector)
        if name == "upright":
            placed = iter(kept := list(placed))
            frame(f"{options.detector}, {name}", kept)
        compare(f"{options.detector}, {name}", placed, faces, labels, align=options.detector != "haar")


if __name__ == "__main__":
    main()
