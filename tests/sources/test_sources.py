"""Sources: what they are called, what is opened and what is refused, which folders and globs hold what."""

import base64
import io
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from ferkit.errors import DownloadError, ImageError
from ferkit.sources import pictures as sources
from ferkit.sources.images import read_image
from ferkit.sources.listing import is_many
from ferkit.sources.names import name_of, printable_name
from ferkit.sources.pictures import open_source
from ferkit.sources.streaming import expand_sources

PIXELS = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
with io.BytesIO() as file:
    PIL.Image.fromarray(PIXELS).save(file, "PNG")
    PNG = file.getvalue()
BASE64 = base64.b64encode(PNG).decode()


def refused(source: object) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(ImageError) as caught:
        open_source(source)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    with pytest.raises(ImageError):
        read_image(source)
    return str(caught.value)


class Reader:
    """A file of somebody else's making: `read` does as it was told."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)

    def read(self, size: int = -1) -> object:
        answer = self.answers.pop(0) if self.answers else b""
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_every_kind_of_source_reads_the_same(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PNG)))
    with path.open("rb") as opened, path.open("rb", buffering=0) as raw:
        for source in (
            *(str(path), path, "photo.png", "./photo.png", Path("photo.png"), "-"),
            *(PNG, bytearray(PNG), memoryview(PNG), memoryview(PNG + PNG)[: len(PNG)]),
            *(io.BytesIO(PNG), opened, raw, Reader(PNG[:9], PNG[9:])),
            *(PIL.Image.open(path), PIL.Image.fromarray(PIXELS), PIXELS, PIXELS / 255),
            f"data:image/png;base64,{BASE64}",
        ):
            assert np.array_equal(read_image(source), PIXELS), name_of(source)
        assert not opened.closed


def test_a_strided_memoryview_is_copied():
    spread = bytearray(2 * len(PNG))
    spread[::2] = PNG
    assert np.array_equal(read_image(memoryview(spread)[::2]), PIXELS)


@pytest.mark.parametrize(
    "uri",
    [
        pytest.param(f"data:;base64,{BASE64}", id="no type"),
        pytest.param(f"DATA:image/PNG;BASE64,{BASE64}", id="capitals"),
        pytest.param(f"data:image/png;name=a.png;base64,{BASE64}", id="with a parameter"),
        pytest.param(f"data:image/png;base64,{BASE64.rstrip('=')}", id="without padding"),
        pytest.param(f"data:image/png;base64,{base64.encodebytes(PNG).decode()}", id="in lines"),
        pytest.param(f"data:image/png;base64, {BASE64} \r\n", id="in blanks"),
        pytest.param("data:image/png;base64," + base64.urlsafe_b64encode(PNG).decode(), id="url alphabet"),
        pytest.param("data:image/png;base64," + BASE64.replace("+", "%2B").replace("=", "%3D"), id="percent in base64"),
        pytest.param("data:image/png," + "".join(f"%{byte:02x}" for byte in PNG), id="percent only"),
    ],
)
def test_data_uris(uri):
    assert np.array_equal(read_image(uri), PIXELS)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        pytest.param("data:image/png;base64", "without a comma", id="data URI without data"),
        pytest.param("data:image/png;base64,", "(0 bytes): it is empty", id="empty data URI"),
        pytest.param("data:image/png;base64,a%", "is not base64", id="no base64"),
        pytest.param("data:image/png;base64,abcde", "is not base64", id="base64 with a letter too many"),
        pytest.param("data:image/png;base64," + "ä" * 90, "is not base64", id="letters that are not ASCII"),
        pytest.param(BASE64 * 9, "Base64 needs data:image/png;base64,", id="bare base64"),
        pytest.param("a" * 300 + ".jpg", "File name too long", id="long name"),
        pytest.param("/a b" * 9999, "(39,996 letters): File name too long", id="longer than any path"),
        pytest.param("a\0b.jpg", "a\\x00b.jpg: ", id="null in the path"),
        pytest.param("a\nb\x1b]2J.jpg", "File not found: a\\nb\\x1b]2J.jpg.", id="letters that terminals obey"),
        pytest.param("", "File not found: . Expected the path or URL of an image", id="empty path"),
        pytest.param("xyzzy.png", "File not found: xyzzy.png. Expected the path or URL of an image", id="missing file"),
        pytest.param("no/such.jpg", "no folder no", id="missing folder"),
        pytest.param("nothing*.jpg", "No picture matches nothing*.jpg", id="glob without match"),
        pytest.param(Path("https://host/a.png"), "went through Path", id="address as Path"),
        pytest.param("nonsense://host/a.png", "fsspec", id="other address"),
        pytest.param("file:///no/such.png", "File not found: file:///no/such.png", id="file address"),
        pytest.param("https://host/a.png", "Cannot fetch https://host/a.png: FERKIT_OFFLINE is set", id="offline"),
        pytest.param(b"", "bytes: it is empty", id="no bytes"),
        pytest.param(bytearray(), "bytes: it is empty", id="no bytes in an array"),
        pytest.param(io.BytesIO(), "Was it read before?", id="empty file"),
        pytest.param(io.StringIO("text"), "mode 'rb'", id="text file"),
        pytest.param(Reader("text"), "read() gave str", id="text"),
        pytest.param(Reader(None, None, None), "it is empty", id="file that has nothing yet"),
        pytest.param(Reader(42, 42), "read() gave int", id="file of numbers"),
        pytest.param(Reader(ConnectionResetError(104, "Reset"), OSError(5, "I/O")), "Reset", id="file that breaks"),
        pytest.param(Reader(RuntimeError("a\nb"), RuntimeError()), "Cannot read file: a b.", id="any exception"),
        pytest.param(42, "Received: int", id="number"),
        pytest.param(None, "Received: NoneType", id="None"),
        pytest.param([PNG], "Received: list", id="list"),
    ],
)
def test_what_is_refused(source, words):
    assert words in refused(source)


def test_closed_and_foreign_files_are_refused(tmp_path):
    closed = io.BytesIO(PNG)
    closed.close()
    assert "closed file" in refused(closed)
    with (tmp_path / "new").open("wb") as for_writing:
        assert "read" in refused(for_writing)
    with Path(__file__).open(encoding="utf-8") as text:
        assert "mode 'rb'" in refused(text)


def test_the_second_reading_of_a_file_says_why_it_is_empty(monkeypatch):
    once = io.BytesIO(PNG)
    read_image(once)
    assert "Was it read before?" in refused(once)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PNG)))
    read_image("-")
    assert "standard input: it is empty" in refused("-")


@pytest.mark.parametrize("stdin", [pytest.param(None, id="none"), pytest.param(io.StringIO(), id="text only")])
def test_standard_input_that_is_none(monkeypatch, stdin):
    monkeypatch.setattr("sys.stdin", stdin)
    assert "nothing is piped" in refused("-")


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals here")
def test_a_terminal_is_not_waited_for(monkeypatch):
    _, terminal = os.openpty()
    with os.fdopen(terminal, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert "nothing is piped" in refused("-")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_what_is_no_regular_file_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.jpg"))
        for path in (tmp_path / "pipe.jpg", tmp_path / "s.jpg", "/dev/zero", "/dev/null", "/dev/tty"):
            assert "a pipe, socket or device" in refused(path)
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    assert "Too many levels of symbolic links" in refused(tmp_path / "circle.jpg")


def test_files_too_large_for_a_picture_are_not_read(tmp_path, monkeypatch):
    """Sparse files: they take no room on the disk."""
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.write(PNG)
        file.truncate(sources.MAX_FILE_BYTES + 1)
    assert "it has 537 MB. Expected at most 537 MB." in refused(path)
    with path.open("rb") as file:
        assert "it has more than 100 MB" in refused(file)
    (tmp_path / "empty.png").touch()
    assert "it is empty" in refused(tmp_path / "empty.png")
    monkeypatch.setattr(sources, "MAX_COPIED_BYTES", 100)
    assert "it has more than 100 bytes" in refused(io.BytesIO(b"x" * 101))
    assert "Expected at most 100 bytes" in refused("data:image/png;base64," + "a" * 101)
    assert isinstance(open_source(io.BytesIO(b"x" * 100)), io.BytesIO)


ENDLESS = """
import resource, sys
from ferkit.errors import ImageError
from ferkit.sources.images import read_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for source in ("-", open("/dev/zero", "rb")):
    try:
        read_image(source)
    except ImageError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no endless file here")
@pytest.mark.timeout(60)
def test_endless_input_ends():
    with Path("/dev/zero").open("rb") as zeros:
        done = subprocess.run([sys.executable, "-c", ENDLESS], stdin=zeros, capture_output=True, text=True, check=True)
    *lines, kilobytes = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Cannot read standard input", "Cannot read /dev/zero"]
    assert all("more than 100 MB" in line for line in lines)
    assert int(kilobytes) < 400_000


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("a/b.jpg", "a/b.jpg", id="str"),
        pytest.param(Path("a/b.jpg"), "a/b.jpg", id="Path"),
        pytest.param("https://host/a//b.png?x=1", "https://host/a//b.png?x=1", id="address"),
        pytest.param(f"data:image/png;base64,{'A' * 16000}", "data:image/png;base64,... (12 kB)", id="data URI"),
        pytest.param("data:,%41", "data:,... (3 bytes)", id="plain data URI"),
        pytest.param("data:" + "x" * 5000, f"data:{'x' * 35},... (0 bytes)", id="data URI without data"),
        pytest.param("x" * 5000, f"{'x' * 60}... (5,000 letters)", id="longer than a path"),
        pytest.param("-", "-", id="standard input"),
        pytest.param(b"x", "bytes", id="bytes"),
        pytest.param(memoryview(b"x"), "bytes", id="memoryview"),
        pytest.param(PIXELS, "array", id="array"),
        pytest.param(PIL.Image.fromarray(PIXELS), "PIL image", id="PIL image"),
        pytest.param(io.BytesIO(b"x"), "file", id="file without a name"),
        pytest.param(None, "NoneType", id="None"),
        pytest.param(4.5, "float", id="number"),
    ],
)
def test_names(source, expected):
    assert name_of(source) == printable_name(source) == expected


def test_names_of_what_was_opened(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    with path.open("rb") as file, PIL.Image.open(path) as image:
        assert name_of(file) == name_of(image) == str(path)
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as file:  # whose name is a number
        assert name_of(file) == "file"


def test_addresses_are_fetched(monkeypatch):
    asked = []

    def fetch(url: str, *, limit: int) -> bytes:
        asked.append((url, limit))
        if "gone" in url:
            raise DownloadError(f"Cannot fetch {url}: the server has no such file (404).")
        return {"page": b"\n <!DOCTYPE html>", "nothing": b""}.get(url[-7:].strip("/"), PNG)

    monkeypatch.setattr(sources, "fetch", fetch)
    for url in ("https://host/a.png", "HTTP://host/a*b[1].png?q=**"):
        assert np.array_equal(read_image(url), PIXELS)
        assert asked[-1] == (url, 100_000_000)
    assert refused("https://host/gone.png") == "Cannot fetch https://host/gone.png: the server has no such file (404)."
    assert "it is empty" in refused("https://host/nothing")
    with pytest.raises(ImageError, match=r"Cannot read https://host///page: it is a web page"):
        read_image("https://host///page")


def test_one_picture_in_two_threads(tmp_path):
    """Pillow decodes lazily; two threads at it at once would each read a part."""
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    start = threading.Barrier(4)

    def read(image: PIL.Image.Image) -> bool:
        start.wait()
        return np.array_equal(read_image(image), pixels)

    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            assert all(pool.map(read, [PIL.Image.open(path)] * 4))


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        (folder / name).touch()


def test_folders_globs_and_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files(tmp_path, "b/10.jpg", "b/2.JPG", "b/notes.txt", "b/c/1.png", "me[1].jpg", "a.webp", "b/.9.jpg", "b/.h/8.jpg")
    below = ["b/2.JPG", "b/10.jpg", "b/c/1.png"]
    for argument, expected in {
        "b": below,
        "b/": below,
        "./b": ["./" + name for name in below],
        "b/[0-9]*": ["b/2.JPG", "b/10.jpg"],
        "?": below,
        "b*/": below,
        "**/*.png": ["b/c/1.png"],
        "**": ["a.webp", *below, "me[1].jpg"],
        "b/**": below,
        "**/c/**/*.png": ["b/c/1.png"],
        "**/**/*.png": ["b/c/1.png"],
        "[ab]*/**/[0-9]*": below,
        "me[1].jpg": ["me[1].jpg"],
        "*.xyz": ["*.xyz"],
        ".": ["./a.webp", "./me[1].jpg", *("./" + name for name in below)],
        "b/.h": ["b/.h/8.jpg"],
    }.items():
        assert list(expand_sources([argument])) == expected, argument
    assert list(expand_sources([f"{tmp_path}/**/*.png"])) == [f"{tmp_path}/b/c/1.png"]
    assert list(expand_sources(["b/[0-9]*", "a.*"])) == ["b/2.JPG", "b/10.jpg", "a.webp"]
    (tmp_path / "empty").mkdir()
    assert list(expand_sources(["empty", "gone.jpg", "a.webp"])) == ["empty", "gone.jpg", "a.webp"]


def test_a_mixed_list_is_expanded_in_place(tmp_path):
    files(tmp_path, "1.png", "2.png")
    both = [str(tmp_path / name) for name in ("1.png", "2.png")]
    others = [PNG, PIXELS, PIL.Image.fromarray(PIXELS), io.BytesIO(PNG), "-", "https://h/*?[a]", "data:,*", None, 42]
    expanded = list(expand_sources([tmp_path, *others, str(tmp_path / "[0-9].png")]))
    assert expanded[:2] == expanded[-2:] == both
    assert all(one is other for one, other in zip(expanded[2:-2], others, strict=True))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param(".", True, id="folder"),
        pytest.param(Path(), True, id="folder as Path"),
        pytest.param("*.jpg", True, id="glob"),
        pytest.param(Path("**/*.jpg"), True, id="glob as Path"),
        pytest.param("photo.jpg", False, id="file"),
        pytest.param("me[1].jpg", False, id="file that looks like a glob"),
        pytest.param("gone.jpg", False, id="nothing there"),
        pytest.param("-", False, id="standard input"),
        pytest.param("https://host/a.png?b=*", False, id="address"),
        pytest.param("data:image/png;base64,*", False, id="data URI"),
        pytest.param("x" * 99_999, False, id="long"),
        pytest.param("a\0*", True, id="null in a glob"),
        pytest.param(b"*.jpg", False, id="bytes"),
        pytest.param(["*.jpg"], False, id="list"),
    ],
)
def test_what_is_many(source, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files(tmp_path, "photo.jpg", "me[1].jpg")
    assert is_many(source) is expected


@pytest.mark.timeout(20)
def test_links_in_a_circle_end(tmp_path, monkeypatch):
    """Two of them: with one, even what follows links ends after forty turns."""
    monkeypatch.chdir(tmp_path)
    files(tmp_path, "a/1.jpg", "b/2.jpg")
    for link, target in (("a/loop", "."), ("a/up", "."), ("b/here", "b"), ("b/other", "a")):
        (tmp_path / link).symlink_to(tmp_path / target, target_is_directory=True)
    (tmp_path / "b" / "3.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    (tmp_path / "a" / "folder.jpg").symlink_to(tmp_path / "b", target_is_directory=True)
    for argument in (".", "**/*.jpg", "**"):
        assert [os.path.normpath(name) for name in expand_sources([argument])] == ["a/1.jpg", "b/2.jpg", "b/3.jpg"]
    assert list(expand_sources(["b/other"])) == ["b/other/1.jpg"]


def test_a_folder_that_cannot_be_listed_is_named(tmp_path, monkeypatch):
    """Root may list everything, so the refusal is made."""
    files(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    closed, scandir = str(tmp_path / "b"), os.scandir

    def guarded(path: str):
        if path == closed:
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert [Path(name).name for name in expand_sources([tmp_path])] == ["1.jpg", "b", "3.jpg"]
    assert "cannot be listed" in refused(closed)


def test_folders_are_listed_when_their_turn_comes(tmp_path, monkeypatch):
    files(tmp_path, "a/1.jpg", "b/2.jpg")
    listed, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: (listed.append(Path(path).name), scandir(path))[1])
    pictures = expand_sources([tmp_path])
    assert next(pictures) == str(tmp_path / "a" / "1.jpg")
    assert "b" not in listed


def test_a_missing_file_suggests_near_names(tmp_path):
    (tmp_path / "photo.jpg").touch()
    assert f"Did you mean {tmp_path / 'photo.jpg'}?" in refused(tmp_path / "phto.jpg")


def test_folders_are_no_pictures(tmp_path):
    assert "holds no pictures" in refused(tmp_path)
    files(tmp_path, "a.png")
    assert f"Expected a picture, such as {tmp_path / 'a.png'}." in refused(tmp_path)
