"""One contract for every kind of source: the same pictures come by the same names and with the same pixels everywhere."""

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ferkit.data import load_dataset
from ferkit.errors import FerkitError, ImageError
from ferkit.sources import expand_sources, is_many, list_references, list_sources, name_of, read_image, read_pictures
from ferkit.video import open_video
from s3_server import s3_server

CLASSES = ("cats", "dogs")
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


# As a data set has them: a folder for each class.
FILES = {f"{CLASSES[number // 4]}/{number}.png": png(pixels) for number, pixels in enumerate(PIXELS)}


def folder(place: Path) -> Path:
    for name, data in FILES.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def zipped(place: Path) -> Path:
    path = place.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


def tarred(place: Path, suffix: str = ".tar") -> Path:
    path = place.with_name(f"{place.name}{suffix}")
    with tarfile.open(path, {".tar": "w", ".tar.gz": "w:gz"}[suffix]) as archive:
        for name, data in FILES.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def parquet(place: Path) -> Path:
    path = place.with_suffix(".parquet")
    labels = [name.partition("/")[0] for name in FILES]
    table = pa.table({"image": list(FILES.values()), "path": list(FILES), "label": labels})
    pq.write_table(table, path, row_group_size=3)
    return path


def listed(place: Path) -> Path:
    folder(place)
    path = place / "list.txt"
    path.write_text("\n".join(FILES))
    return path


@pytest.fixture(scope="module")
def bucket():
    """Puts files into a bucket of a store on the loopback; returns the address of what they lie in."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    import s3fs

    with s3_server():
        store = s3fs.S3FileSystem()
        store.mkdir("faces")

        def put(path: Path) -> str:
            for file in [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]:
                store.pipe_file(f"faces/{file.relative_to(path.parent)}", file.read_bytes())
            return f"s3://faces/{path.name}"

        yield put


def here(path: Path) -> str:
    return str(path)


# What makes it; what stands between it and the name of a picture; whether data sets read it.
KINDS = [
    pytest.param(folder, "/", True, id="folder"),
    pytest.param(zipped, "::", True, id="zip"),
    pytest.param(tarred, "::", True, id="tar"),
    pytest.param(lambda place: tarred(place, ".tar.gz"), "::", True, id="tar-gz"),
    pytest.param(parquet, None, True, id="parquet"),
    pytest.param(listed, None, False, id="list"),
]


@pytest.mark.parametrize("far", [False, True], ids=["here", "s3"])
@pytest.mark.parametrize(("make", "between", "labelled"), KINDS)
def test_every_source_gives_the_same_names_and_pixels(make, between, labelled, far, tmp_path, request):
    put = request.getfixturevalue("bucket") if far else here
    source = put(make(tmp_path / "pictures"))
    if far and make is listed:
        source = put(tmp_path / "pictures") + "/list.txt"
    names = list(FILES) if between is None else [f"{source}{between}{name}" for name in FILES]
    assert is_many(source)

    # As `predict` and `EmotionRecognizer` read them,
    found = list(expand_sources([source]))
    assert [name_of(one) for one in found] == names
    for _ in range(2):
        assert np.array_equal([read_image(one) for one in found], PIXELS)
    again = list(expand_sources(list_sources([source])))
    assert [name_of(one) for one in again] == names

    # as a batch does, by references that can be written down,
    pictures = list(read_pictures(list(list_references(source))))
    assert [one.name for one in pictures] == names
    assert np.array_equal([read_image(one) for one in pictures], PIXELS)

    # as the frames of a video,
    with open_video(source, fps=10) as video:
        assert np.array_equal([frame.pixels for frame in video], PIXELS)

    # and as a data set.
    if labelled:
        faces = load_dataset(source, channels=3).split("all")
        order = np.argsort(faces.rows)
        assert np.array_equal(faces.images[order], PIXELS)
        assert [faces.classes[label] for label in faces.labels[order]] == [name.partition("/")[0] for name in FILES]


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("{}/cats/0.png", id="object"),
        pytest.param("{}/cats/*.png", id="glob"),
        pytest.param("{}/cats/{{0..3}}.png", id="braces"),
    ],
)
def test_what_lies_in_a_bucket_is_named_like_a_file(source, bucket, tmp_path):
    source = source.format(bucket(folder(tmp_path / "pictures")))
    found = list(expand_sources([source]))
    assert found == [f"s3://faces/pictures/cats/{number}.png" for number in range(len(found))]
    assert len(found) == (4 if is_many(source) else 1)
    assert np.array_equal([read_image(one) for one in found], PIXELS[: len(found)])


def test_the_other_sources_go_on_where_one_is_damaged_or_gone(bucket, tmp_path):
    damaged, packed = zipped(tmp_path / "a"), tarred(tmp_path / "b", ".tar.gz")
    for path in (damaged, packed):
        path.write_bytes(path.read_bytes()[:-200])
    (tmp_path / "empty").mkdir()
    sources = [damaged, packed, "s3://faces/gone", "s3://nowhere/x.tar", "s3://faces/gone.png", tmp_path / "empty"]
    found = list(expand_sources([*sources, PIXELS[0], parquet(tmp_path / "c")]))
    assert np.array_equal([read_image(one) for one in found[-9:]], PIXELS[[0, *range(8)]])
    said = {}
    for one in found[:-9]:
        try:
            read_image(one)
        except ImageError as error:
            said[str(name_of(one))] = str(error)
    assert list(said)[-6:] == [str(source) for source in sources]
    for source, words in zip(
        sources, ("not a zip file", "cut off", "not there", "x.tar", "File not found", "no pictures"), strict=True
    ):
        assert words in said[str(source)]
        assert "\n" not in said[str(source)]


def test_a_data_set_in_a_bucket_is_read_anew_when_it_changed(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("FERKIT_CACHE", str(tmp_path / "cache"))
    place = folder(tmp_path / "changing")
    address = bucket(place)
    assert len(load_dataset(address).split("all")) == 8
    (place / "cats" / "9.png").write_bytes(png(PIXELS[0] // 2))
    bucket(place)
    assert len(load_dataset(address).split("all")) == 9
    with pytest.raises(FerkitError, match=r"There is no s3://faces/gone\.zip"):
        load_dataset("s3://faces/gone.zip")
