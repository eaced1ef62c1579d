"""What commands print where something around them fails, and what never reaches a terminal."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import ferkit
from ferkit.cli import app
from ferkit.cli.console import command, output


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        pytest.param(OSError(36, "File name too long", "x" * 300), "File name too long. Check", id="file name"),
        pytest.param(OSError(13, "Permission denied"), "Cannot use a file: Permission denied", id="unknown file"),
        pytest.param(OSError(28, "No space left"), "Cannot write to standard output: No space left.", id="full disk"),
        pytest.param(MemoryError(), "Not enough memory", id="memory"),
        pytest.param(RuntimeError("BFCArena: Failed to allocate memory"), "Not enough memory", id="arena"),
        pytest.param(
            SystemError("error return without exception set"), "Not enough memory", id="not-even-for-an-error"
        ),
        pytest.param(ImportError("cv2.so: failed to map segment"), "Not enough memory", id="library"),
    ],
)
def test_what_goes_wrong_around_the_program_is_one_line(run_ferkit, monkeypatch, problem, said):
    def fails(*_args, **_more):
        raise problem

    monkeypatch.setattr("ferkit.sources.list_sources", fails)
    code, out, err = run_ferkit("predict", "x.jpg")
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1


def test_nothing_but_a_closed_output_is_told_of_it():
    done = subprocess.run(
        ["/bin/sh", "-c", f"{sys.executable} -m ferkit recipes --json >&-"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "ferkit: Cannot write to standard output: Bad file descriptor.\n")


def test_a_terminal_gets_no_escape_characters(run_ferkit, tmp_path):
    (tmp_path / "\x1b[2Jred\x9b.png").write_bytes(b"no picture")
    code, out, err = run_ferkit("predict", tmp_path)
    assert code == 1
    assert r"\x1b[2Jred\x9b.png" in err
    assert not {"\x1b", "\x9b"} & set(out + err)


def test_tables_print_no_escape_characters(capsys):
    output.file = None  # the captured one
    output.print("a\x1b]0;title\x07\r\u202eb\u3000c")
    assert capsys.readouterr().out == "a\\x1b]0;title\\u202eb\u3000c\n"


def test_a_second_file_for_one_option_is_refused(run_ferkit):
    code, out, err = run_ferkit("video", "clip.mp4", "--plot", "a.png", "--plot", "b.png")
    assert (code, out) == (2, "")
    assert err.startswith("ferkit: --plot was given more than once and takes one.")


def test_a_printed_command_can_be_pasted():
    words = ["my runs/it's", "fer 2013.csv", "$HOME;rm"]
    assert shlex.split(command("evaluate", *words)) == ["ferkit", "evaluate", *words]


# Of Typer, and of Ray, pip, tar, tf2onnx and git, which messages name or ferkit runs.
_FOREIGN = {"--version", "--help", "--head", "--force-reinstall", "--sparse", "--hard-dereference"}
_FOREIGN |= {"--error-unmatch", "--porcelain", "--untracked-files", "--saved-model", "--output"}


def test_options_that_messages_recommend_exist():
    commands = typer.main.get_command(app).commands.values()
    options = {
        name for one in commands for parameter in one.params for name in (*parameter.opts, *parameter.secondary_opts)
    }
    for path in Path(ferkit.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*[a-z]", node.value))
                assert named <= options | _FOREIGN, (path, named - options - _FOREIGN)
