"""The package as a whole: light to import, one version."""

import importlib.metadata
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ferkit

SOURCE = Path(ferkit.__file__).parent


def loaded_after(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("code", "banned"),
    [
        pytest.param("import ferkit", {"numpy", "cv2", "keras", "onnxruntime", "typer"}, id="import-ferkit"),
        pytest.param(
            "import ferkit.cli",
            {"numpy", "cv2", "keras", "tensorflow", "matplotlib", "pyarrow", "duckdb", "fsspec", "ray"},
            id="command-line",
        ),
        pytest.param("import ferkit.recognizer", {"keras", "tensorflow", "jax", "matplotlib"}, id="recognizer"),
        pytest.param("import ferkit.models, ferkit.training.config", {"keras", "tensorflow", "jax"}, id="lists"),
    ],
)
def test_importing_stays_light(code, banned):
    assert not banned & loaded_after(code)


WITHOUT_EXTRAS = """
import sys
sys.modules.update(dict.fromkeys(["keras", "tensorflow", "pandas", "pyarrow", "duckdb", "fsspec", "av", "ray", "onnx"]))
from ferkit.cli import main
main()
"""
WANTS_PARQUET = "ferkit: Parquet needs PyArrow: pip install 'ferkit[parquet]'.\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        pytest.param(["predict", "face.jpg", "--json", "--csv", "faces.csv"], None, id="recognition"),
        pytest.param(["evaluate", "default", "faces"], None, id="evaluation"),
        pytest.param(["predict", "face.jpg", "--parquet", "faces.parquet"], WANTS_PARQUET, id="table"),
        pytest.param(["predict", "pictures.parquet"], WANTS_PARQUET, id="pictures"),
        pytest.param(["evaluate", "default", "pictures.parquet"], WANTS_PARQUET, id="data-set"),
        pytest.param(["batch", "face.jpg", "out"], WANTS_PARQUET, id="batch"),
    ],
)
def test_what_the_base_install_does_and_what_it_names(words, message, tmp_path):
    for name in ("face.jpg", "faces/test/happy/1.jpg", "faces/test/sad/2.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ferkit.sample_picture(), tmp_path / name)
    (tmp_path / "pictures.parquet").write_bytes(b"PAR1PAR1")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, message or done.stderr) == ((0 if message is None else 1), done.stderr)


def test_every_public_name_is_there():
    for name in ferkit.__all__:
        assert getattr(ferkit, name) is not None
    with pytest.raises(AttributeError, match="No ferkit attribute nonsense"):
        ferkit.nonsense  # noqa: B018


def test_one_version():
    assert ferkit.__version__ == importlib.metadata.version("ferkit")
    assert f"\nversion: {ferkit.__version__}\n" in (Path(__file__).parents[2] / "CITATION.cff").read_text()


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "ferkit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ferkit {ferkit.__version__}\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process to some cores")
def test_no_thread_leaves_the_cores_that_the_process_may_use():
    """ONNX Runtime pins threads of its own choosing, past `taskset`."""
    code = (
        "import os; from pathlib import Path\n"
        "one = {min(os.sched_getaffinity(0))}; os.sched_setaffinity(0, one)\n"
        "from ferkit.recognizer import EmotionRecognizer; from ferkit.models import sample_picture\n"
        "recognizer = EmotionRecognizer(detector='haar'); recognizer([sample_picture()] * 3)\n"
        "print(all(os.sched_getaffinity(int(task.name)) == one for task in Path('/proc/self/task').iterdir()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
