"""Several devices: on JAX the numbers of one, elsewhere one line that says so."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faces import small_dataset
from ferkit._support.devices import Devices, choose, parse
from ferkit.errors import UsageError

keras = pytest.importorskip("keras")
pytestmark = [pytest.mark.keras, pytest.mark.timeout(300)]  # compiling for four devices on a busy machine

# Of float32 after twelve steps: sums are formed in another order.
ROUNDING = {"rtol": 1e-4, "atol": 1e-5}
# What XLA would make faster is run a few times: compiling it takes longer.
FLAGS = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of runs on one and on four devices."""
    pytest.importorskip("jax")
    folder = tmp_path_factory.mktemp("jax")
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS}
    script = Path(__file__).parents[1] / "helpers" / "devices_run.py"
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def arrays(path):
    with np.load(path) as stored:
        return {name: stored[name] for name in stored.files if name != "meta"}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], **ROUNDING, err_msg=name)


@pytest.mark.slow
def test_a_run_on_four_devices_is_that_on_one(runs):
    """Weights, averages, statistics, states of chance; the second of three epochs was done on four devices."""
    one, moved = runs / "one", runs / "moved"
    for name in ("last.npz", "best.npz"):
        assert_same(arrays(one / "checkpoints" / name), arrays(moved / "checkpoints" / name))
    # loss, accuracy, val_loss, val_accuracy
    tables = [np.loadtxt(run / "history.csv", delimiter=",", skiprows=1)[:, 1:5] for run in (one, moved)]
    np.testing.assert_allclose(*tables, atol=1e-4)


@pytest.mark.slow
def test_the_run_folder_says_where_it_was_done(runs):
    sessions = json.loads((runs / "moved" / "environment.json").read_text())
    assert [len(one["devices"]) for one in sessions] == [1, 4, 1, 4]
    assert "devices" not in json.loads((runs / "moved" / "config.json").read_text())


@pytest.mark.slow
def test_what_is_saved_is_plain_keras(runs):
    network = keras.saving.load_model(runs / "moved" / "model.keras", compile=False)
    (norm,) = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert not norm.synchronized
    assert network.predict(small_dataset(size=16).val.images, verbose=0).shape == (28, 7)


class FakeModel:
    """Its loss is the mean of what it gets."""

    def __init__(self):
        self.sizes = []

    def evaluate(self, faces, wanted, *, batch_size, **_):
        self.sizes.append((len(faces), batch_size))
        return {"loss": float((faces * wanted).mean())}


@pytest.mark.parametrize(
    ("faces", "devices", "sizes"),
    [
        pytest.param(30, 1, [(30, 256)], id="one"),
        pytest.param(28, 4, [(28, 256)], id="even"),
        pytest.param(30, 4, [(28, 256), (8, 256)], id="rest"),
        pytest.param(3, 4, [(12, 256)], id="few"),
        pytest.param(30, 6, [(30, 258)], id="batch"),
    ],
)
def test_held_out_faces_need_not_divide(faces, devices, sizes, rng):
    from ferkit.training.loop import _scores

    model, pixels, wanted = FakeModel(), rng.random(faces), rng.random(faces)
    scores = _scores(model, pixels, wanted, devices)
    assert scores["loss"] == pytest.approx((pixels * wanted).mean(), rel=1e-12)
    assert model.sizes == sizes


@pytest.mark.parametrize("wanted", ["none", "-1", "0", "2.5", ""])
def test_devices_are_a_number_or_all(wanted):
    with pytest.raises(UsageError, match="devices is a number from 1, or all"):
        parse(wanted)


def test_more_devices_than_there_are():
    have = len(choose("all"))
    assert choose(have) == choose("all")
    assert len(choose(None)) == 1
    others = {"jax": rf"{have + 1} devices requested, but jax sees {have} \([CG]PU\) on this machine"}
    backend = keras.backend.backend()
    words = others.get(backend, rf"{have + 1} devices requested, but {backend} trains on one\. Use JAX for several")
    with pytest.raises(UsageError, match=words):
        choose(have + 1)


@pytest.mark.parametrize(
    ("size", "count", "fitting"),
    [
        pytest.param(64, 6, "60 or 66", id="both"),
        pytest.param(5, 8, "8", id="more"),
        pytest.param(64, 4, "", id="fits"),
    ],
)
def test_a_batch_must_divide(size, count, fitting):
    devices = Devices(tuple(f"GPU:{number}" for number in range(count)))
    if not fitting:
        devices.check_batch(size)
        return
    with pytest.raises(
        UsageError, match=rf"{size} faces does not divide by {count} devices.* --batch-size {fitting}, "
    ):
        devices.check_batch(size)


def test_nothing_is_left_behind(tmp_path):
    from ferkit.training.loop import train

    with pytest.raises(UsageError, match="devices requested"):
        train(small_dataset(size=16), out=tmp_path / "run", devices=64)
    assert not (tmp_path / "run").exists()
