"""Batch jobs: the same rows however they are cut and run; what is refused; the command."""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import PIL.Image
import pytest

from batch_faults import whole
from batch_jobs import inline, make_pictures, rows_of
from ferkit import batch
from ferkit.batch.engines import ENGINES
from ferkit.batch.job import Settings
from ferkit.batch.running import Progress
from ferkit.batch.worker import PartWorker
from ferkit.cli import app
from ferkit.errors import FerkitError, MissingDependencyError, ModelError, UsageError
from ferkit.models import model_folder
from ferkit.recognizer import EmotionRecognizer
from ferkit.results import Box, Face
from recognition import BrightnessClassifier

CLASSIFIER = BrightnessClassifier()


@pytest.fixture(autouse=True)
def inline_engine(monkeypatch):
    monkeypatch.setitem(ENGINES._choices, "inline", inline)


@pytest.fixture
def pictures(tmp_path):
    return make_pictures(tmp_path / "pictures", 12)


def run(source, out, **changes):
    settings = {"model": CLASSIFIER, "detector": "none", "engine": "inline", **changes}
    return batch.run(source, out, **settings)


@dataclass(frozen=True)
class Quarters:
    """As many faces as the first pixel says, so that batches never end with pictures."""

    def __call__(self, image):
        half = image.shape[0] // 2
        corners = [(0, 0), (half, 0), (0, half), (half, half)]
        return [Face(Box(x, y, x + half, y + half), 0.5) for x, y in corners[: int(image[0, 0, 0]) % 5]]


class Fickle(BrightnessClassifier):
    """Answers differently when it sees another number of faces, as networks do in the last bit."""

    def predict_proba(self, faces):
        answers = super().predict_proba(faces)
        answers[:, 0] += len(faces) / 1000
        return answers / answers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("model", [pytest.param(Fickle(), id="fickle"), pytest.param("voters", id="network")])
def test_rows_are_the_same_to_the_bit_whatever_comes_together(model, tmp_path, rng):
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        noise = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        PIL.Image.fromarray(noise).save(tmp_path / "pictures" / f"{number:02}.png")
    jobs = {}
    for size in (1, 7, 20):
        out = tmp_path / f"out-{size}"
        batch.run(tmp_path / "pictures", out, engine="inline", model=model, detector=Quarters(), part_size=size)
        jobs[size] = rows_of(out)
    for size in (1, 7):
        # Part 2 is done anew, carefully: one picture at a time.
        out = tmp_path / f"out-{size}"
        (out / "part-000002.parquet").unlink()
        (out / "_job" / "begun" / "000002.json").write_text('{"at": null, "deaths": {}, "unexplained": 0}')
        batch.run(tmp_path / "pictures", out, engine="inline", model=model, detector=Quarters(), part_size=size)
        jobs[size, "carefully"] = rows_of(out)
    first, *others = jobs.values()
    assert len(first) > 30
    for other in others:
        assert other == first


def test_both_ways_of_running_give_the_same_rows(pictures, tmp_path):
    run(pictures, tmp_path / "inline", part_size=5)
    told: list[Progress] = []
    summary = run(pictures, tmp_path / "local", part_size=5, engine="local", workers=2, progress=told.append)
    assert rows_of(tmp_path / "local") == rows_of(tmp_path / "inline")
    assert (told[0].parts, told[0].pictures) == (0, 0)
    assert (told[-1].parts, told[-1].pictures, told[-1].pictures_in_all, told[-1].seconds_left) == (3, 12, 12, 0)
    assert (summary.parts, summary.skipped_parts, summary.faces, summary.errors) == (3, 0, 12, 0)


def test_what_is_done_is_not_done_again(pictures, tmp_path, monkeypatch):
    run(pictures, tmp_path / "out", part_size=5)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    (pictures / "000.png").unlink()
    seen: list[int] = []

    def watched(job, parts, workers, *, address=None):
        seen.extend(parts)
        return inline(job, parts, workers)

    monkeypatch.setitem(ENGINES._choices, "inline", watched)
    told: list[Progress] = []
    summary = run(pictures, tmp_path / "out", progress=told.append)
    assert seen == [1]
    assert (summary.parts, summary.skipped_parts, summary.pictures) == (3, 2, 12)
    assert (told[0].pictures, told[0].new, told[0].seconds_left) == (7, 0, None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"min_confidence": 0.5}, "min_confidence was 0.0 there and is 0.5 now", id="confidence"),
        pytest.param({"tta": "flip"}, "tta was None there and is flip now", id="tta"),
        pytest.param({"part_size": 3}, "part_size was 5 there and is 3 now", id="part-size"),
        pytest.param({"detector": whole}, "detector was none there and is batch_faults.whole now", id="detector"),
        pytest.param({"model": "default"}, "model was recognition.BrightnessClassifier there", id="model"),
        pytest.param({"source": "other"}, "source was .*pictures there and is .*other now", id="source"),
    ],
)
def test_another_job_in_the_same_folder_is_refused(change, said, pictures, tmp_path):
    run(pictures, tmp_path / "out", part_size=5)
    source = tmp_path / change.pop("source", "pictures")
    with pytest.raises(UsageError, match=said):
        run(source, tmp_path / "out", **change)


def test_another_model_in_the_same_place_is_refused(pictures, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(model_folder.find("default"), model)
    run(pictures, tmp_path / "out", model=model)
    card = json.loads((model / "card.json").read_text())
    (model / "card.json").write_text(json.dumps({**card, "temperature": 9.0}))
    with pytest.raises(UsageError, match="SHA-256 of the model was"):
        run(pictures, tmp_path / "out", model=model)


def test_a_worker_with_another_model_refuses_to_work(pictures, tmp_path):
    job = batch.Job(str(tmp_path), "", Settings(detector="none"), 1, 1, CLASSIFIER.classes, {"model": "0" * 64})
    with pytest.raises(ModelError, match="SHA-256 differs"):
        PartWorker(job)


def test_a_worker_without_the_file_of_the_detector_says_that_it_is_missing(tmp_path):
    settings = Settings(model=CLASSIFIER, detector="none")
    job = batch.Job(str(tmp_path), "", settings, 1, 1, CLASSIFIER.classes, {"detector": "0" * 64})
    with pytest.raises(ModelError, match=r"The file of the detector .* is missing on"):
        PartWorker(job)


def test_a_relative_model_is_the_same_wherever_it_is_asked_for(pictures, tmp_path, monkeypatch):
    shutil.copytree(model_folder.find("default"), tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    seen = []

    def watched(job, parts, workers, *, address=None):
        seen.append(job.settings.model)
        return inline(job, parts, workers)

    monkeypatch.setitem(ENGINES._choices, "inline", watched)
    run(pictures, tmp_path / "out", model="model")
    monkeypatch.chdir(pictures)
    run(pictures, tmp_path / "out", model="../model")
    (pictures / "default").mkdir()
    run(pictures, tmp_path / "other", model="default")
    assert seen == [str(tmp_path / "model")] * 2 + ["default"]


def test_a_folder_with_other_things_is_refused(pictures, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".DS_Store").touch()
    (tmp_path / "out" / "thesis.pdf").touch()
    with pytest.raises(UsageError, match=r"contains other files, such as thesis.pdf"):
        run(pictures, tmp_path / "out")
    (tmp_path / "out" / "thesis.pdf").unlink()
    assert run(pictures, tmp_path / "out").pictures == 12


def test_an_address_of_a_local_folder_is_that_folder(pictures, tmp_path):
    summary = run(pictures, f"file://{tmp_path}/out")
    assert summary.out == str(tmp_path / "out")
    assert (tmp_path / "out" / "_job" / "lock").exists(), "alone there, as in any local folder"
    assert run(pictures, tmp_path / "out").skipped_parts == summary.parts


def test_a_file_is_no_folder_for_results(pictures, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(FerkitError, match=r"is a file\. Expected a folder"):
        run(pictures, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"engine": "dask"}, "Unknown engine 'dask'", id="engine"),
        pytest.param({"workers": 0}, "workers must be at least 1", id="no-workers"),
        pytest.param({"engine": "local", "address": "here"}, "has no address", id="address"),
        pytest.param({"out": "sftp://host/out"}, "could be read half written", id="out"),
        pytest.param({"part_size": 0}, "part_size must be 1 to", id="part-size"),
        pytest.param({"min_confidence": 2}, "min_confidence must be 0 to 1", id="confidence"),
        pytest.param({"detector": "x"}, "Unknown detector 'x'", id="detector"),
        pytest.param({"tta": "x"}, "Unknown test-time augmentation 'x'", id="tta"),
        pytest.param({"engine": "local", "detector": lambda image: []}, "must be picklable", id="lambda"),
    ],
)
def test_choices_that_make_no_sense(changes, said, pictures, tmp_path):
    out = changes.pop("out", tmp_path / "out")
    with pytest.raises(UsageError, match=said):
        run(pictures, out, **changes)


@pytest.mark.parametrize(
    ("engine", "address", "error"),
    [
        pytest.param("local", "head:6379", UsageError, id="address"),
        pytest.param("ray", None, MissingDependencyError, id="no-ray"),
    ],
)
def test_what_the_engine_lacks_is_said_before_pictures_are_listed(
    engine, address, error, pictures, tmp_path, monkeypatch
):
    def listed(source):
        raise AssertionError("listed")

    monkeypatch.setattr("ferkit.batch.plan.list_references", listed)
    monkeypatch.setattr("ferkit._support.ray_session.importlib.util.find_spec", lambda name: None)
    with pytest.raises(error):
        run(pictures, tmp_path / "out", engine=engine, address=address)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("_job/job.json", "is damaged", id="job"),
        pytest.param("_job/plan-000000.parquet", "The plan .* is damaged", id="plan"),
        pytest.param("part-000000.parquet", "is not a file that ferkit wrote", id="part"),
    ],
)
def test_a_damaged_job_is_one_line(name, said, pictures, tmp_path):
    run(pictures, tmp_path / "out", part_size=5)
    (tmp_path / "out" / "part-000001.parquet").unlink()
    (tmp_path / "out" / name).write_bytes(b"nonsense")
    with pytest.raises(FerkitError, match=said) as caught:
        run(pictures, tmp_path / "out")
    assert "\n" not in str(caught.value)


def ferkit(*words) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "ferkit", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command(pictures, tmp_path):
    (pictures / "broken.jpg").write_bytes(b"no picture")
    done = ferkit("batch", pictures, tmp_path / "out", "--detector", "none", "--workers", 1, "--json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert (summary["pictures"], summary["faces"], summary["errors"]) == (13, 12, 1)
    assert "13 images, 12 faces; 1 could not be read." in done.stderr


def test_the_command_goes_on_and_says_so(pictures, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("ferkit.batch.engines.ENGINES._choices", {"local": inline})
    words = ["batch", str(pictures), str(tmp_path / "out"), "--detector", "none", "--part-size", "5"]
    app(words, standalone_mode=False)
    (tmp_path / "out" / "part-000002.parquet").unlink()
    capfd.readouterr()
    app(words, standalone_mode=False)
    out, err = capfd.readouterr()
    assert out == ""
    assert "12 images, 12 faces." in err
    assert "Wrote 3 files" in err
    assert "2 of them before" in err


def test_predict_and_batch_agree(tmp_path, pictures):
    """To more digits than anybody prints; the last ones depend on what shares a batch, in `predict`."""
    batch.run(pictures, tmp_path / "out", engine="inline", detector="none")
    recognizer = EmotionRecognizer(detector="none")
    for row, result in zip(rows_of(tmp_path / "out"), recognizer([str(pictures)]), strict=True):
        (found,) = result.faces
        assert row["source"] == result.source
        assert row["label"] == found.label
        assert [row[name] for name in recognizer.classes] == pytest.approx(list(found.probabilities.values()), abs=1e-5)
