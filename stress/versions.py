"""Do the lowest and the highest versions that pyproject.toml allows pass the tests, on each Python that is here?

    python stress/versions.py --python 3.13 [--resolution lowest-direct|highest] [-- tests/models/test_export.py ...]

Makes a clone of what is committed and an environment of its own in a temporary folder, with all extras, and runs the
tests that are not marked slow or shared; what stands behind -- goes to pytest. Needs uv, and some 3 GB of room.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("train", "jax", "tune", "video", "web", "batch", "ray", "s3", "window")
GROUPS = ("build", "test")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    parser.add_argument("--resolution", choices=("lowest-direct", "highest"), default="highest")
    parser.add_argument("tests", nargs="*", help="for pytest; all where none is named")
    options = parser.parse_args(words)

    with tempfile.TemporaryDirectory(prefix="ferkit-versions-") as folder:
        clone, made = Path(folder, "ferkit"), Path(folder, "venv")
        done(f"git clone --quiet {ROOT} {clone}")
        done(f"uv venv --quiet --python {options.python} {made}")
        python = str(made / "bin" / "python")
        resolved = Path(folder, "resolved.txt")
        pip = f"uv pip {{}} --quiet --python {python}"
        extras = " ".join(f"--extra {one}" for one in EXTRAS) + " " + " ".join(f"--group {one}" for one in GROUPS)
        done(f"{pip.format('compile')} --resolution {options.resolution} {extras} pyproject.toml -o {resolved}", clone)
        done(f"{pip.format('install')} --requirements {resolved}", clone)
        done(f"{pip.format('install')} --no-deps --editable .", clone)
        chosen = options.tests or ["-m", "not slow and not shared"]
        print(f"Python {options.python}, {options.resolution} versions: pytest {' '.join(chosen)}", flush=True)
        # The tests call commands by name.
        environment = os.environ | {"PATH": f"{made / 'bin'}{os.pathsep}{os.environ['PATH']}"}
        tested = [python, "-m", "pytest", "-n", "1", "--timeout", "600", "-rfE", *chosen]
        return subprocess.run(tested, cwd=clone, env=environment, check=False).returncode


def done(command: str, where: Path = ROOT) -> None:
    subprocess.run(command.split(), cwd=where, check=True)


if __name__ == "__main__":
    sys.exit(main())
