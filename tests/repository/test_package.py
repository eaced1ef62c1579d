"""The package as a whole: light to import, one way of imports, one version."""

import ast
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ferkit

SOURCE = Path(ferkit.__file__).parent

# DESIGN: imports go one way, down this list. A module may import what stands above it or on its own line.
ORDER = [
    {"errors", "wording"},
    {"labels", "registry", "files", "palette", "samples", "keras_backend", "parallel"},
    {"ray_session"},
    {"devices", "download", "listing"},
    {"results", "rows", "drawing", "interchange", "notebook"},
    {"sources"},
    {"images"},
    {"cropping"},
    {
        "datasets",
        "augmentation",
        "averaging",
        "denoising",
        "mixing",
        "schedules",
        "models",
        "detection",
        "metrics",
        "model_files",
        "model_folder",
        "tta",
    },
    {"classifier", "engines", "recipes"},
    {"settings", "search_space", "ensemble", "evaluation", "report_tables", "plots", "export", "model_card"},
    {"recognizer"},
    {"following"},
    {"report", "training", "sinks"},
    {"audit", "explain"},
    {"video", "batch"},
    {"ray_runs", "runs"},
    {"sweeps"},
    {"tuning"},
    {"summaries"},
    {"web", "window"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "ferkit":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ferkit."):
            found.add(str(node.module).split(".")[1])
    return found


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path):
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    assert own in LEVEL, f"give {own} a place in ORDER"
    wrong = {name for name in imported(path) if LEVEL[name] > LEVEL[own]}
    assert not wrong, f"{own} must not import {wrong}"


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


def test_every_public_name_is_there():
    for name in ferkit.__all__:
        assert getattr(ferkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        ferkit.nonsense  # noqa: B018


def test_one_version():
    assert ferkit.__version__ == importlib.metadata.version("ferkit")


def test_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "ferkit", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"ferkit {ferkit.__version__}\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot keep a process to some cores")
def test_no_thread_leaves_the_cores_that_the_process_may_use():
    """ONNX Runtime pins threads of its own choosing, past `taskset`."""
    code = (
        "import os; from pathlib import Path\n"
        "one = {min(os.sched_getaffinity(0))}; os.sched_setaffinity(0, one)\n"
        "from ferkit.recognizer import EmotionRecognizer; from ferkit.models.samples import sample_picture\n"
        "recognizer = EmotionRecognizer(detector='haar'); recognizer([sample_picture()] * 3)\n"
        "print(all(os.sched_getaffinity(int(task.name)) == one for task in Path('/proc/self/task').iterdir()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
