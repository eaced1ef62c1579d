"""Training: runs learn, resume exactly, survive, and refuse nonsense in one line."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faces import face_set, small_dataset
from ferkit.errors import DatasetError, FerkitError, TrainingError, UsageError
from ferkit.models.classifier import EmotionClassifier
from ferkit.training import run_folder
from ferkit.training.augmentation import Augmentation
from ferkit.training.config import RECIPES, TrainConfig
from ferkit.training.schedules import SCHEDULES, Span, plateau_rate

keras = pytest.importorskip("keras")
pytestmark = pytest.mark.keras

# Everything that has a state or a chance of its own, on the quickest network.
EVERYTHING = {
    "epochs": 4,
    "batch_size": 16,
    "augmentation": Augmentation(rotation=10, zoom=0.1, shift=0.05, flip=True, contrast=0.2, brightness=0.1, erase=0.3),
    "mixup": 0.2,
    "cutmix": 1.0,
    "mix_share": 0.5,
    "average": 0.7,
}


def train(*arguments, **options):
    from ferkit.training.loop import train

    return train(*arguments, quiet=True, **options)


def variables(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if name != "meta"}


def assert_same_state(first: Path, second: Path) -> None:
    one, two = variables(first), variables(second)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One run of four epochs with everything switched on, shared by the tests that only look."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return train(small_dataset(), "better", out=folder, **EVERYTHING)


def test_a_run_learns_and_leaves_a_model_folder(finished):
    assert finished.history[-1]["loss"] < finished.history[0]["loss"]
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {
        "model.keras",
        "model.onnx",
        "card.json",
        "config.json",
        "environment.json",
        "history.csv",
        "curves.png",
    }
    card = json.loads((finished.folder / "card.json").read_text())
    assert card["classes"][0] == "angry"
    assert card["face_input"] == {"height": 48, "width": 48, "channels": 1, "margin": -0.05, "align": True}
    assert card["training"]["best_epoch"] == 1 + int(np.argmax([row["val_accuracy"] for row in finished.history]))
    with (finished.folder / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert any(path.stat().st_size > 200 for path in (finished.folder / "tensorboard").iterdir())


def test_the_served_copy_gives_the_same_answers(finished):
    faces = small_dataset().val
    onnx = EmotionClassifier.load(finished.folder, engine="onnx").predict_proba(faces.images)
    with_keras = EmotionClassifier.load(finished.folder, engine="keras").predict_proba(faces.images)
    np.testing.assert_allclose(onnx, with_keras, atol=1e-4)
    accuracy = float((onnx.argmax(axis=1) == faces.labels).mean())
    assert accuracy == pytest.approx(finished.classifier.card["metrics"]["accuracy"])


@pytest.mark.usefixtures("no_serving_copy")
def test_killed_and_resumed_ends_at_the_same_weights(finished, tmp_path):
    """`kill -9` in the middle of an epoch costs that epoch and changes nothing."""
    folder = tmp_path / "killed"
    script = textwrap.dedent(f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]!r}
        from faces import face_set, small_dataset
        from test_training import EVERYTHING, train
        train(small_dataset(), "better", out={str(folder)!r}, **EVERYTHING)
    """)
    process = subprocess.Popen([sys.executable, "-c", script], env=os.environ, stderr=subprocess.DEVNULL)
    history = folder / "history.csv"
    deadline = time.monotonic() + 90
    while not (history.is_file() and len(history.read_text().splitlines()) >= 3):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(history.read_text().splitlines()) - 1
    assert 2 <= done < 4, "killed too late to show anything"
    resumed = train(small_dataset(), out=folder, resume=True)
    assert resumed.classifier.card["training"]["recipe_name"] == "better", "not the one that nobody named"
    assert_same_state(finished.folder / "checkpoints" / "last.npz", folder / "checkpoints" / "last.npz")
    assert_same_state(finished.folder / "checkpoints" / "best.npz", folder / "checkpoints" / "best.npz")
    assert [row["val_loss"] for row in resumed.history] == [row["val_loss"] for row in finished.history]


@pytest.mark.usefixtures("no_serving_copy", "tiny_network")
def test_plateau_and_early_stopping_resume_too(tmp_path):
    options = {"model": "tiny", "schedule": "plateau", "patience": 3, "learning_rate": 1e-3, "batch_size": 16}
    whole = train(small_dataset(size=16), "tutorial", out=tmp_path / "whole", epochs=6, **options)
    parts = tmp_path / "parts"
    train(small_dataset(size=16), "tutorial", out=parts, epochs=3, **options)
    config = json.loads((parts / "config.json").read_text())
    (parts / "config.json").write_text(json.dumps({**config, "epochs": 6}))
    train(small_dataset(size=16), out=parts, resume=True)
    assert_same_state(whole.folder / "checkpoints" / "last.npz", parts / "checkpoints" / "last.npz")


def test_full_disk_keeps_the_last_checkpoint(finished, tmp_path, monkeypatch):
    from ferkit.training import run_folder as checkpoints

    folder, saved = tmp_path / "run", []
    write = np.savez

    def savez(file, **arrays):
        if len(saved) >= 4:  # best and last of two epochs
            file.write(b"half a file")
            raise OSError(28, "No space left on device")
        saved.append(file)
        write(file, **arrays)

    monkeypatch.setattr(np, "savez", savez)
    with pytest.raises(TrainingError, match="No space left on device"):
        train(small_dataset(), "better", out=folder, **EVERYTHING)
    monkeypatch.undo()
    assert not list((folder / "checkpoints").glob(".*")), "half-written files must go"
    assert len(checkpoints.load(folder / "checkpoints" / "last.npz").history) >= 2
    train(small_dataset(), out=folder, resume=True)
    assert_same_state(finished.folder / "checkpoints" / "last.npz", folder / "checkpoints" / "last.npz")


def test_bfloat16_trains_and_leaves_a_float32_network(tmp_path):
    data = small_dataset(size=16)
    run = train(data, "better", out=tmp_path / "run", epochs=3, batch_size=16, precision="bfloat16")
    assert run.history[-1]["loss"] < run.history[0]["loss"]
    network = keras.saving.load_model(run.folder / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in network.layers} == {"float32"}
    onnx = run.classifier.predict_proba(data.val.images)
    accuracy = float((onnx.argmax(axis=1) == data.val.labels).mean())
    card = run.classifier.card
    assert accuracy == pytest.approx(card["metrics"]["accuracy"])
    best = run.history[card["training"]["best_epoch"] - 1]
    assert best["val_loss"] == pytest.approx(card["metrics"]["nll"], abs=1e-5), "chosen in the precision of the model"


@pytest.mark.usefixtures("no_serving_copy")
def test_the_average_is_what_is_measured_and_kept(tmp_path, monkeypatch):
    """A run whose average never moves from the first step's weights keeps those, however far training goes."""
    monkeypatch.setattr("ferkit.training.step._LOOKS_BACK", 0)
    data = small_dataset(size=16)
    options = {"batch_size": 64, "optimizer": "sgd", "learning_rate": 0.3, "average": 1 - 1e-7}
    run = train(data, TrainConfig(**options, epochs=3), out=tmp_path / "run")
    first = train(data, TrainConfig(**{**options, "average": 0.0}, epochs=1), out=tmp_path / "first")
    kept, once = (
        keras.saving.load_model(folder / "model.keras", compile=False).get_layer("conv1").kernel.numpy()
        for folder in (run.folder, first.folder)
    )
    np.testing.assert_allclose(kept, once, atol=1e-5)
    last = variables(run.folder / "checkpoints" / "last.npz")
    assert min(np.abs(value - once).max() for value in last.values() if value.shape == once.shape) < 1e-5
    assert max(np.abs(value - once).max() for value in last.values() if value.shape == once.shape) > 1e-3


@pytest.mark.usefixtures("no_serving_copy")
def test_own_classes_and_sizes(tmp_path):
    data = small_dataset(classes=("cat", "dog"), size=16)
    run = train(data, "tutorial", out=tmp_path / "run", epochs=1, batch_size=8)
    assert run.classifier.classes == ("cat", "dog")
    assert run.classifier.predict_proba(data.val.images).shape == (28, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("no_serving_copy")
def test_init_brings_its_architecture(tmp_path):
    """The packaged model is not the network of the recipe; without --model its own is taken."""
    run = train(small_dataset(16, 14), "tutorial", out=tmp_path / "run", init="default", epochs=1)
    assert run.config.model == EmotionClassifier.load("default").card["architecture"]


@pytest.mark.usefixtures("no_serving_copy")
def test_init_takes_the_weights_that_fit(finished, tmp_path):
    data = small_dataset(classes=("bar", "no bar", "two bars"))
    run = train(data, "tutorial", out=tmp_path / "run", init=str(finished.folder), epochs=1, learning_rate=1e-12)
    source = keras.saving.load_model(finished.folder / "model.keras", compile=False)
    network = keras.saving.load_model(run.folder / "model.keras", compile=False)
    np.testing.assert_allclose(network.get_layer("conv1").kernel, source.get_layer("conv1").kernel, atol=1e-6)
    assert network.output_shape == (None, 3)


def test_a_config_is_taken_as_it_is(tmp_path):
    """Only a recipe's network gives way to that of `init`: a config says which it wants."""
    data = small_dataset(16, 14)
    with pytest.raises(TrainingError, match="No layer of default fits"):
        train(data, TrainConfig(init="default", epochs=1), out=tmp_path / "run")


@pytest.mark.usefixtures("no_serving_copy")
def test_init_takes_no_head_of_other_classes_and_says_what_begins_anew(finished, tmp_path, capsys):
    """Seven classes of another meaning would begin surely wrong."""
    from ferkit.training.start import take_weights
    from ferkit.training.step import untrained_network

    data = small_dataset()
    assert data.classes == finished.classifier.classes
    source = keras.saving.load_model(finished.folder / "model.keras", compile=False)
    heads = {}
    for classes in (data.classes, tuple("abcdefg")):
        network = untrained_network(data.train, TrainConfig())
        assert take_weights(network, finished.folder, classes) is None
        heads[classes] = network.get_layer("probabilities").kernel.numpy()
        np.testing.assert_array_equal(network.get_layer("conv1").kernel, source.get_layer("conv1").kernel)
    own = source.get_layer("probabilities").kernel.numpy()
    assert np.array_equal(heads[data.classes], own)
    assert not np.array_equal(heads[tuple("abcdefg")], own)
    small = untrained_network(small_dataset(size=16).train, TrainConfig())
    said = take_weights(small, finished.folder, data.classes)
    assert "layers take their weights from" in said
    assert "random: dense" in said


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        pytest.param({"Training": 14, "PublicTest": 0}, "PublicTest of .* has no face to choose", id="val"),
        pytest.param({"Training": 0, "PublicTest": 14}, "Training of .* has no face to train on", id="train"),
    ],
)
def test_an_empty_split_is_refused(splits, words, tmp_path):
    data = replace(small_dataset(), splits={name: face_set(n, 1, name) for name, n in splits.items()})
    with pytest.raises(DatasetError, match=words):
        train(data, "tutorial", out=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_by_one_process_at_a_time(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    held = run_folder.alone(tmp_path / "run", "run", run_folder.CONFIG_FILE)
    with held, pytest.raises(TrainingError, match="Another run works in"):
        train(small_dataset(), "better", out=tmp_path / "run", resume=True)
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert before == (finished.folder / "config.json").read_bytes()


def test_paths_and_lists_are_kept_as_json_gives_them_back(tmp_path):
    config = TrainConfig(init=tmp_path, weights=tmp_path / "w.h5", teachers=[tmp_path, "default"], teacher_tta="none")
    assert (config.init, config.teachers, config.teacher_tta) == (str(tmp_path), (str(tmp_path), "default"), None)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.changed(teachers=[str(tmp_path), "default"]) == config


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        pytest.param({"seed": 2**32}, UsageError, "seed must be at least 0 and below 4294967296", id="seed"),
        pytest.param({"teachers": "default"}, UsageError, "teachers must be several models", id="teachers"),
        pytest.param({"recipe": "tutoriel"}, UsageError, "Did you mean 'tutorial'", id="recipe"),
        pytest.param({"epochs": 0}, UsageError, "epochs must be at least 1. Received: 0", id="epochs"),
        pytest.param({"epochs": 2.5}, UsageError, "epochs must be a whole number. Received: 2.5", id="half-an-epoch"),
        pytest.param({"epochs": None}, UsageError, "epochs must be a whole number. Received: None", id="no-epochs"),
        pytest.param(
            {"recipe": "better", "epochs": 1},
            UsageError,
            "epochs (1) must be larger than warmup_epochs (1), or the learning rate never leaves its warm-up",
            id="all-warm-up",
        ),
        pytest.param(
            {"recipe": "fine-tune", "head_epochs": 11, "warmup_epochs": 1.5},
            UsageError,
            "epochs - head_epochs (1) must be larger than warmup_epochs (1.5)",
            id="all-warm-up-in-a-phase",
        ),
        pytest.param({"batch_size": -4}, UsageError, "batch_size must be at least 1", id="batch-size"),
        pytest.param({"learning_rate": 0.0}, UsageError, "learning_rate must be above 0", id="rate-zero"),
        pytest.param({"learning_rate": float("nan")}, UsageError, "learning_rate must be above 0", id="rate-nan"),
        pytest.param({"schedule": "cosin"}, UsageError, "Did you mean 'cosine'", id="schedule"),
        pytest.param({"model": "resnet999"}, UsageError, "Unknown model", id="model"),
        pytest.param({"activation": "rellu"}, UsageError, "Did you mean 'relu'", id="activation"),
        pytest.param(
            {"activation": "glu"}, UsageError, "'glu' cannot stand behind a convolution", id="halves-channels"
        ),
        pytest.param({"activation": "threshold"}, UsageError, "wants values of its own", id="wants-values"),
        pytest.param(
            {"unfreeze_rate": 1e-4}, UsageError, "head_epochs is 0. Set head_epochs", id="unfreeze-rate-alone"
        ),
        pytest.param({"precision": "float16"}, UsageError, "Choices: float32, bfloat16", id="precision"),
        pytest.param({"mix_share": 1.5}, UsageError, "mix_share must be from 0 to 1. Received: 1.5", id="mix-share"),
        pytest.param({"average": 1.0}, UsageError, "average must be at least 0 and below 1", id="average"),
        pytest.param({"mixup": -0.2}, UsageError, "mixup must be at least 0. Received: -0.2", id="mixup"),
        pytest.param({"colour": 1}, UsageError, "Unknown training option 'colour'", id="option"),
        pytest.param({"init": "nowhere"}, FerkitError, "No model at nowhere", id="init"),
    ],
)
def test_nonsense_is_refused_in_one_line(options, error, words, tmp_path):
    with pytest.raises(error) as caught:
        train(small_dataset(), out=tmp_path / "run", **options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param({}, "holds a run already", id="taken"),
        pytest.param({"resume": True, "epochs": 9}, "other values of epochs", id="other-values"),
    ],
)
def test_a_taken_folder_is_not_overwritten(finished, options, words):
    with pytest.raises(TrainingError, match=words):
        train(small_dataset(), "better", out=finished.folder, **options)


def test_resume_refuses_other_data(finished):
    with pytest.raises(TrainingError, match="trained on other data"):
        train(small_dataset(train=70), "better", out=finished.folder, resume=True)


@pytest.mark.parametrize("out", [None, "runs/typo"])
def test_nothing_to_resume(out, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrainingError, match="nothing to resume"):
        train(small_dataset(), "tutorial", out=out, resume=True)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_a_folder(tmp_path):
    """The second of two runs that chose the same folder at the same time is refused before it writes anything."""
    from ferkit.training import run_folder

    data, config = small_dataset(size=16), TrainConfig()
    run_folder.claim(tmp_path, config, data)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(TrainingError, match="another run has just taken it"):
        run_folder.claim(tmp_path, config.changed(epochs=3), data)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_of_another_version_is_refused_in_one_line(tmp_path):
    data = small_dataset(size=16)
    run_folder.claim(tmp_path, TrainConfig(), data)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "sharpness": 0.0, "denoise": 0.0}))
    with pytest.raises(TrainingError, match="it is of another version of ferkit, with denoise, sharpness") as caught:
        train(data, out=tmp_path, resume=True)
    assert "\n" not in str(caught.value)
    config["thaw"] = 2 if config.pop("unfreeze") is None else 0
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert run_folder.stored_config(tmp_path, data, {})[0].unfreeze == 2, "the former name of a value is known"


def test_a_temperature_needs_faces(finished):
    assert finished.classifier.temperature == 1.0, "28 held-out faces are too few to calibrate on"


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TrainingError, match=r"a file of that name|Not a directory"):
        train(small_dataset(), out=tmp_path / "file" / "run", epochs=1)


@pytest.mark.parametrize(
    ("name", "rates"),
    [
        pytest.param("constant", {0: 1.0, 50: 1.0, 99: 1.0}, id="constant"),
        pytest.param("step", {0: 1.0, 50: 1.0, 60: 0.1, 99: 0.01}, id="step"),
        pytest.param("cosine", {0: 0.01, 10: 1.0, 55: 0.5, 100: 0.0}, id="cosine"),
    ],
)
def test_schedules(name, rates):
    schedule = SCHEDULES[name](Span(peak=1.0, warmup=10, total=100))
    for step, rate in rates.items():
        value = float(schedule(step)) if callable(schedule) else schedule
        assert value == pytest.approx(rate, abs=1e-3), f"step {step}"


def test_plateau_halves_after_waiting():
    falling = [{"val_loss": loss} for loss in (2.0, 1.5, 1.6, 1.6, 1.6)]
    assert plateau_rate(0.1, falling) == 0.1
    assert plateau_rate(0.1, [*falling, {"val_loss": 1.5}]) == pytest.approx(0.05)
    assert plateau_rate(0.1, [{"val_loss": 1.0}] * 1000) == pytest.approx(0.0001)


def test_the_tutorial_recipe_is_the_tutorials():
    config = RECIPES["tutorial"].config
    assert (config.optimizer, config.learning_rate, config.batch_size, config.epochs) == ("adam", 1e-4, 64, 50)
    shape = config.augmentation
    assert (shape.rotation, shape.zoom, shape.shear, shape.flip, shape.shift) == (30, 0.2, 0.2, True, 0)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.slow
def test_a_tiny_run_on_jax(tmp_path):
    """The same code on the other backend, in its own process because Keras chooses once."""
    pytest.importorskip("jax")
    script = textwrap.dedent(f"""
        import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]!r}
        from faces import face_set, small_dataset
        from test_training import EVERYTHING, train
        run = train(small_dataset(size=16), "better", out={str(tmp_path / "run")!r}, **{{**EVERYTHING, "epochs": 2}})
        assert run.history[1]["loss"] < run.history[0]["loss"], run.history
        print(run.classifier.card["training"]["sessions"][0]["backend"], sorted(run.classifier.card["sha256"]))
        assert list((run.folder / "tensorboard").iterdir())
    """)
    # What XLA would make faster is run twice: compiling it takes longer.
    quick = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": quick}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "jax ['model.keras', 'model.onnx']"


def test_steps_are_not_waited_for():
    """Keras on JAX reads the logs of every step for a callback that does not say it may be late."""
    from ferkit.training.loop import TrainingProgress, _ShowSteps

    assert _ShowSteps(TrainingProgress(1, 1, 1, quiet=True), 1).callback().async_safe


def test_whole_numbers_are_rates_too():
    config = TrainConfig(learning_rate=1, unfreeze_rate=2, head_epochs=1)
    assert [type(one) for one in (config.learning_rate, config.unfreeze_rate)] == [float, float]


@pytest.mark.usefixtures("no_serving_copy", "tiny_network")
def test_trouble_with_tensorboard_does_not_cost_the_run(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    from ferkit.training.loop import train

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    run = train(small_dataset(size=16), out=tmp_path / "run", model="tiny", epochs=2, batch_size=16)
    assert len(run.history) == 2
    said = capsys.readouterr().err
    assert said.count("No more curves in") == 1
    assert "epoch   2/2" in said


def test_a_network_that_cannot_be_served_is_said_and_kept(tmp_path, monkeypatch, capsys, tiny_network):
    from ferkit.models import exporting as parity
    from ferkit.training.loop import train

    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    run = train(small_dataset(size=16), out=tmp_path / "run", model="tiny", epochs=1, batch_size=16)
    assert "No model.onnx" in capsys.readouterr().err
    assert list(run.classifier.card["sha256"]) == ["model.keras"]
    assert len(run.classifier.predict_proba(small_dataset(size=16).val.images)) == 28


@pytest.mark.usefixtures("no_serving_copy", "tiny_network")
def test_resume_catches_up_with_the_table_and_refuses_other_targets(tmp_path):
    """Killed after the checkpoint and before the table; resumed without the votes it was trained on."""
    data = small_dataset(size=16)
    votes = np.eye(7, dtype=np.float32)[data.train.labels]
    voted = replace(data, splits={**data.splits, "Training": replace(data.train, votes=votes)})
    train(voted, out=tmp_path / "run", model="tiny", epochs=2, batch_size=16)
    table = tmp_path / "run" / "history.csv"
    whole = table.read_text()
    table.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(TrainingError, match="trained with votes"):
        train(data, out=tmp_path / "run", resume=True)
    corrected = replace(data, splits={**data.splits, "Training": replace(data.train, votes=votes[:, ::-1])})
    with pytest.raises(TrainingError, match="trained with other votes"):
        train(corrected, out=tmp_path / "run", resume=True)
    train(voted, out=tmp_path / "run", resume=True)
    assert table.read_text() == whole
