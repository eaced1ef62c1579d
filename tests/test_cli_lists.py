import json
import subprocess
import sys

import pytest

from ferkit.cli import lists
from ferkit.detection import DETECTORS
from ferkit.models import ARCHITECTURES
from ferkit.recipes import RECIPES

REGISTRIES = {"models": ARCHITECTURES, "detectors": DETECTORS, "recipes": RECIPES}


@pytest.mark.parametrize("command", REGISTRIES)
def test_lists_come_from_the_registries(command, capsys):
    getattr(lists, command)(as_json=True)
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows if row.get("kind") != "trained"] == list(REGISTRIES[command])
    assert all(row["about"] for row in rows)
    getattr(lists, command)()
    table = capsys.readouterr().out
    assert all(name in table for name in REGISTRIES[command])


def test_detectors_say_whether_they_are_ready(capsys):
    lists.detectors(as_json=True)
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["haar"]["ready"]
    assert rows["haar"]["problem"] is None
    assert not rows["yunet"]["ready"]
    assert "FERKIT_YUNET" in rows["yunet"]["problem"]


def test_the_packaged_model_is_listed_by_its_card(capsys, monkeypatch, tmp_path):
    from ferkit import model_folder
    from ferkit.images import FaceInput

    (tmp_path / "model.onnx").write_bytes(bytes(2_000_000))
    details = {"metrics": {"accuracy": 0.655, "split": "PublicTest"}}
    model_folder.write_card(tmp_path, classes=("a", "b"), face_input=FaceInput(), temperature=1.0, details=details)
    monkeypatch.setattr(model_folder, "find", lambda model: tmp_path)
    lists.models()
    out = " ".join(capsys.readouterr().out.split())
    assert "trained" in out
    assert "2.0 MB, takes 48x48x1, 65.5% of PublicTest" in out


def test_listing_imports_no_framework():
    code = (
        "import sys\nfrom ferkit.cli import lists\nlists.models(); lists.detectors(); lists.recipes()\n"
        "print(sorted({'keras', 'tensorflow', 'jax', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
