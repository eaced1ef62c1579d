"""Writing: what was there stays until the new is whole, and what is no file is never replaced."""

import os

import numpy as np
import pytest

from faces import small_dataset
from ferkit._support.files import blame, drafted, write_atomically, write_encoded
from ferkit.data.contact_sheet import write_contact_sheet
from ferkit.errors import FerkitError, ModelError
from ferkit.render.style import LIGHT, new_figure, save, show_face
from full_disk import no_room_beyond


def test_a_block_that_fails_leaves_the_old_file(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")

    def half():
        with write_atomically(target) as draft:
            draft.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_disk_trouble_is_one_line_of_the_kind_asked_for(tmp_path):
    with (
        pytest.raises(ModelError, match="No space left on device") as caught,
        write_atomically(tmp_path / "x", ModelError),
    ):
        raise OSError(28, "No space left on device")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_draft_blames_the_file_for_its_own_trouble_only(tmp_path):
    foreign = TimeoutError("nobody answers")

    def late():
        with drafted(tmp_path / "x", ModelError) as draft:
            draft.write_text("half")
            raise foreign

    with pytest.raises(TimeoutError) as caught:
        late()
    assert caught.value is foreign
    with pytest.raises(ModelError, match=r"Cannot write .*x: No such file"), drafted(tmp_path / "x", ModelError):
        pass  # no draft: as if a cleaner of temporary files had come by
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match=r"Cannot write .*x: "), drafted(tmp_path / "file" / "x", ModelError):
        pass
    with pytest.raises(ModelError, match="Cannot write x: No space"), blame("x", ModelError):
        raise OSError(28, "No space left on device")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_encoded_is_written_whole_or_not_at_all(tmp_path):
    write_encoded(tmp_path / "x", lambda stream: stream.write(b"whole"))
    assert (tmp_path / "x").read_bytes() == b"whole"
    with no_room_beyond(3), pytest.raises(ModelError, match="Cannot write"):
        write_encoded(str(tmp_path / "x"), lambda stream: stream.write(b"other"), ModelError)
    assert (tmp_path / "x").read_bytes() == b"whole"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def draw_plot(path):
    figure = new_figure(LIGHT, height=2)
    show_face(figure.add_subplot(), np.zeros((9, 9), np.uint8), LIGHT)
    save(figure, path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".JPEG", ".webp"])
@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(draw_plot, id="plot"),
        pytest.param(lambda path: write_contact_sheet(small_dataset(), path), id="contact sheet"),
    ],
)
def test_a_full_disk_leaves_no_half_picture(draw, suffix, tmp_path):
    """Pillow's JPEG encoder, given a file, takes no notice of what did not fit; only a little is missing here."""
    roomy, full = tmp_path / f"roomy{suffix}", tmp_path / f"full{suffix}"
    draw(roomy)
    room = roomy.stat().st_size - 100
    with no_room_beyond(room), pytest.raises(FerkitError, match="Cannot write"):
        draw(full)
    assert list(tmp_path.iterdir()) == [roomy]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_file_is_not_replaced(tmp_path):
    """As root, a rename onto /dev/null or /dev/stdout would succeed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ModelError, match="not a regular file"), write_atomically(pipe, ModelError):
        pass
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path):
    real, link = tmp_path / "elsewhere.csv", tmp_path / "link.csv"
    real.write_text("old")
    link.symlink_to(real)
    with write_atomically(link) as draft:
        draft.write_text("new")
    assert link.is_symlink()
    assert real.read_text() == "new"
