"""What fuzzing found, given to ferkit again: each input, and every seed, is read or refused in one line."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from fuzz.targets import PACKAGES, Target, target  # noqa: E402 - the folder beside this one is looked for above

pytestmark = pytest.mark.filterwarnings("ignore")  # of libraries, about what they are given

REGRESSIONS = sorted(path for path in (Path(__file__).parent / "fuzz_regressions").glob("*/*") if path.is_file())


@pytest.fixture(autouse=True)
def undone(monkeypatch):
    """Targets lower limits of ferkit for a process of their own; other tests share this one."""
    import PIL.Image

    from ferkit.sources import pixels

    monkeypatch.setattr(pixels, "MAX_PIXELS", pixels.MAX_PIXELS)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", PIL.Image.MAX_IMAGE_PIXELS)


def _target(name: str) -> Target:
    needed = {"models": "h5py", "rest": "fastapi", "stream": "fastapi", "archives": "fsspec", "parquet": "fsspec"}
    pytest.importorskip(needed.get(name, "numpy"))
    return target(name)


@pytest.mark.parametrize("path", [pytest.param(path, id=f"{path.parent.name}-{path.name}") for path in REGRESSIONS])
def test_what_fuzzing_found_stays_fixed(path):
    _target(path.parent.name).look(path.read_bytes())


@pytest.mark.parametrize("name", PACKAGES)
def test_every_seed_is_read_or_refused(name):
    looked_at = _target(name)
    for seed in looked_at.seeds().values():
        looked_at.look(seed)
