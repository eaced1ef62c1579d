"""Where YuNet's weights are: named by the user, in the cache folder, or still to be downloaded."""

import hashlib
import logging
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from ferkit._support.download import Progress, fetch_file, offline
from ferkit._support.files import cache_folder, write_atomically
from ferkit.errors import DownloadError, FerkitError, MissingDependencyError

NAME = "face_detection_yunet_2023mar.onnx"
SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
SIZE = 232_589
# The makers keep it in git LFS, whose files are served from here; then their own mirror.
URLS = (
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/82b38c8f98e7b52aa171400f3e4c722352d0669f"
    f"/models/face_detection_yunet/{NAME}",
    f"https://huggingface.co/opencv/face_detection_yunet/resolve/main/{NAME}",
)

# What those wait at most who did not ask for YuNet, and for how long they do not try again after that failed.
_SHORT_SECONDS = 3.0
_RETRY_SECONDS = 3600

_log = logging.getLogger(__name__)


def find() -> tuple[Path, str | None]:
    """Where YuNet's weights are or belong, and why they cannot be used; None if they can. Touches no network."""
    own = os.environ.get("FERKIT_YUNET")
    if own:
        return Path(own), None if Path(own).is_file() else f"FERKIT_YUNET is {own}, where no file is"
    path = cache_folder() / "models" / NAME
    if not path.is_file():
        return path, f"no {NAME} in FERKIT_YUNET or {path.parent}"
    with suppress(OSError):
        if hashlib.sha256(path.read_bytes()).hexdigest() == SHA256:
            return path, None
    return path, f"{path} has not the checksum of {NAME}"


def problem() -> str | None:
    """Why YuNet cannot be used here, even after a download."""
    trouble = find()[1]
    if trouble is None or _may_download():
        return None
    return f"{trouble}, and FERKIT_OFFLINE is set" if offline() else trouble


def remedy() -> str:
    """What to do where it cannot be used, as the first half of a sentence."""
    if os.environ.get("FERKIT_YUNET"):
        return f"Name a {NAME} that is there, unset FERKIT_YUNET to take the usual one"
    fetch = (
        "Unset FERKIT_OFFLINE to have it downloaded" if offline() else "Call ferkit.detection.fetch_weights('yunet')"
    )
    return f"{fetch}, put {NAME} into {find()[0].parent}, name it in FERKIT_YUNET"


def download_note() -> str | None:
    """What using it will download, in a few words; None if it is here or nothing may be downloaded."""
    return f"downloads {SIZE / 1e6:.1f} MB on first use" if find()[1] and _may_download() else None


def download(progress: Progress | None = None) -> None:
    """Download the file where it is missing and may be downloaded. `MissingDependencyError` where that fails."""
    path, trouble = find()
    if trouble is None or not _may_download():
        return
    if path.exists():
        _log.warning("%s; it is downloaded again.", trouble)
    try:
        fetch_file(URLS, path, sha256=SHA256, size=SIZE, progress=progress)
    except DownloadError as failure:
        raise MissingDependencyError(
            f"The yunet detector needs a file. {failure} Put {NAME} into {path.parent}, or use --detector haar."
        ) from failure


def try_download(progress: Progress | None = None) -> None:
    """Download the file if that takes no longer than a moment; where it failed, not again within an hour."""
    path, trouble = find()
    if trouble is None or not _may_download() or failed_lately():
        return
    failures: list[str] = []
    given_up = threading.Event()

    def show(url: str, done: int, total: int) -> None:
        if progress is not None and not given_up.is_set():
            progress(url, done, total)

    def work() -> None:
        try:
            download(show)
        except FerkitError as failure:
            failures.append(str(failure.__cause__ or failure))

    # On a thread: no time-out ends the search for a host name. What comes late is there for the next start.
    worker = threading.Thread(target=work, name="ferkit-yunet", daemon=True)
    worker.start()
    worker.join(_SHORT_SECONDS)
    given_up.set()
    if failures or worker.is_alive():
        why = failures[0] if failures else f"it was not here after {_SHORT_SECONDS:g} seconds"
        for url in URLS:
            why = why.replace(url, url.split("/")[2])  # the host is enough for those who did not ask
        with suppress(FerkitError), write_atomically(_marker(path)) as draft:
            draft.write_text(why, encoding="utf-8")


def failed_lately() -> str | None:
    """Why `try_download` failed, if that was within the last hour."""
    marker = _marker(find()[0])
    with suppress(OSError, ValueError):
        if 0 <= time.time() - marker.stat().st_mtime < _RETRY_SECONDS:
            return marker.read_text(encoding="utf-8")
    return None


def any_size(weights: bytes) -> bytes:
    """The same network for pictures of any size: the published file declares 640x640, though nothing in it needs that.

    In the file two dimensions read "the value 640"; they become the names "h" and "w", which take as many bytes.
    """
    fixed = b"\x0a\x03\x08\x80\x05" * 2
    return weights.replace(fixed, b"\x0a\x03\x12\x01h\x0a\x03\x12\x01w", 1)


def _may_download() -> bool:
    return not os.environ.get("FERKIT_YUNET") and not offline()


def _marker(path: Path) -> Path:
    return path.with_name(f"{NAME}.failed.txt")
