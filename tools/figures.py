"""Make the pictures of the documentation, in docs/images.

    python tools/figures.py runs/tutorial

The argument is the folder of the tutorial's run, as `ferkit train fer2013.csv --recipe tutorial --out runs/tutorial` makes it;
without it the pictures that need one are left as they are. browser.jpg wants the page that `make web` builds, and Chromium;
without these it is left as it is too. astronaut.jpg is what `make demo` writes. No picture shows another person than the
sample portrait, which is in the public domain.
"""

import argparse
import csv
import functools
import http.server
import shutil
import tempfile
import threading
from pathlib import Path

import numpy as np
import PIL.Image

from ferkit._support.files import write_encoded
from ferkit.batch import People
from ferkit.detection.crops import cut_face, resize_face
from ferkit.evaluation import compare_conditions, plot_study
from ferkit.evaluation.explanation import explain
from ferkit.evaluation.figures import probability_bars, training_curves
from ferkit.labels import EMOTIONS
from ferkit.models import sample_picture
from ferkit.models.classifier import EmotionClassifier
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box, Face
from ferkit.sources.images import read_image

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
TRY = ROOT / "build" / "site" / "try"
FACE = (165, 57, 285, 177)  # in the sample portrait, as a person would draw it: x1 y1 x2 y2
WIDTH = 800  # pixels of a plot; pages are not wider


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="the tutorial's run")
    run = parser.parse_args().run
    if run is not None:
        curves(run)
        whole_and_cut(run)
    heatmaps()
    study()
    if TRY.is_dir():
        browser()


def curves(run: Path) -> None:
    """tutorial-curves.png: loss and accuracy of the tutorial's run."""
    with (run / "history.csv").open(newline="", encoding="utf-8") as file:
        history = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "curves.png"
        training_curves(history, path)
        _small(PIL.Image.open(path), "tutorial-curves.png")


def whole_and_cut(run: Path) -> None:
    """whole-and-cut.png: what the tutorial's network answers to the whole portrait, and to its face."""
    classifier = EmotionClassifier.load(run)
    picture = read_image(sample_picture())
    (found,) = EmotionRecognizer(classifier)(sample_picture())
    cuts = [resize_face(picture, classifier.face_input), cut_face(picture, found.face, classifier.face_input)]
    with tempfile.TemporaryDirectory() as folder:
        bars: list[PIL.Image.Image] = []
        for cut in cuts:
            (probabilities,) = classifier.predict_proba(cut[None])
            path = Path(folder) / f"{len(bars)}.png"
            probability_bars(dict(zip(classifier.classes, probabilities.tolist(), strict=True)), path, face=cut)
            bars.append(PIL.Image.open(path).convert("RGB"))
        both = PIL.Image.new("RGB", (bars[0].width, sum(one.height for one in bars)), "white")
        both.paste(bars[0], (0, 0))
        both.paste(bars[1], (0, bars[0].height))
        _small(both, "whole-and-cut.png")


def heatmaps() -> None:
    """heatmaps.jpg: the sample face explained by occlusion, for `fer2013`, which is less certain of it than `default`."""
    left, top, right, bottom = FACE
    near = read_image(sample_picture())[top - 40 : bottom + 10, left - 40 : right + 40]
    face = Face(Box(40, 40, 40 + right - left, 40 + bottom - top), 1.0)
    drawn = PIL.Image.fromarray(explain("fer2013", near, faces=[face], method="occlusion")[0].overlay())
    write_encoded(IMAGES / "heatmaps.jpg", lambda file: drawn.save(file, "JPEG", quality=88, subsampling=0))


def study() -> None:
    """study.png: shares in two films that twelve simulated people watch."""
    rng, rows = np.random.default_rng(7), []
    for person in range(12):
        disposition = rng.dirichlet((0.5, 0.15, 0.4, 2, 1, 0.6, 4))
        for film, emotion in (("funny", "happy"), ("sad", "sad")):
            mood = np.array([0.25 * (label == emotion) for label in EMOTIONS])
            shares = rng.dirichlet(25 * (0.75 * disposition + mood) + 0.02)
            shown = {f"share_{label}": share for label, share in zip(EMOTIONS, shares.tolist(), strict=True)}
            rows.append({"person": str(person), "film": film, **shown})
    people = People(tuple(rows), "person", ("film",), EMOTIONS, EMOTIONS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "study.png"
        plot_study(people, "shares", path, column="film", comparison=compare_conditions(rows, "film"))
        _small(PIL.Image.open(path), "study.png")


def _small(picture: PIL.Image.Image, name: str) -> None:
    size = WIDTH, round(picture.height * WIDTH / picture.width)
    shrunk = picture.convert("RGB").resize(size, PIL.Image.Resampling.LANCZOS).quantize(128)
    write_encoded(IMAGES / name, lambda file: shrunk.save(file, "PNG", optimize=True))


def browser() -> None:
    """browser.jpg: the page that runs without a server, with the sample portrait."""
    from playwright.sync_api import sync_playwright

    handler = functools.partial(_Quiet, directory=str(TRY))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as playwright:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = shutil.which("chromium") or shutil.which("google-chrome")
        with playwright.chromium.launch(executable_path=program, args=["--no-sandbox"]) as chromium:
            page = chromium.new_page(viewport={"width": 1080, "height": 760})
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            page.set_input_files("#files", sample_picture())
            page.wait_for_selector(".person[data-track='1']", timeout=120_000)
            page.wait_for_timeout(1000)  # until the bars stand still
            page.screenshot(path=IMAGES / "browser.jpg", type="jpeg", quality=80)
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    main()
