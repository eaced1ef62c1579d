"""What every command does with words that it does not understand."""

import pytest
import typer

from ferkit.cli import app


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["predict", "x.jpg", "--top", "0"], "ferkit predict --help'", id="out-of-range"),
        pytest.param(["predict", "x.jpg", "--top", "-17"], "-17", id="out-of-range-shown"),
        pytest.param(["serve", "--port", "99999"], "99999", id="no-port-shown"),
        pytest.param(["train", "x", "--epochs", "many"], "'--epochs'", id="no-number"),
        pytest.param(["train", "x", "--epochs", "many"], "many", id="no-number-shown"),
        pytest.param(["predict", "--nonsense"], "No such option: --nonsense", id="unknown-option"),
        pytest.param(["predict", "x.jpg", "--model"], "'--model' requires an argument", id="no-value"),
        pytest.param(["predict"], "Missing argument 'SOURCE'", id="no-argument"),
        pytest.param(
            ["compare", "x"], "Missing argument 'B'. Expected: Model to compare with A. See", id="second-model"
        ),
        pytest.param(["export"], "Missing argument 'MODEL'. Expected: Model folder, ", id="no-model"),
        pytest.param(["export", "x"], "Missing argument 'OUT'. Expected: File to write: ", id="no-file"),
        pytest.param(["export", "x", "y.h5"], "Missing option '--format'. Expected: onnx, ", id="no-format"),
        pytest.param(["predicct"], "No such command 'predicct'. Did you mean 'predict'? See", id="unknown-command"),
    ],
)
def test_wrong_words_get_one_line(run_ferkit, words, said):
    code, out, err = run_ferkit(*words)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert err.startswith("ferkit: ")


def test_no_words_at_all_show_the_help(run_ferkit):
    code, out, err = run_ferkit()
    assert code == 2
    assert "predict" in out + err
    assert len((out + err).splitlines()) > 10


def test_the_help_shows_whole_summaries_at_80_columns(run_ferkit, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERMINAL_WIDTH", "80")
    code, out, _ = run_ferkit("--help")
    assert code == 0
    names = list(typer.main.get_command(app).commands)
    lines = [line.strip() for line in out.splitlines() if line.split() and line.split()[0] in names]
    assert len(lines) == len(names) >= 16
    assert [line for line in lines if len(line) > 78 or not line.endswith(".") or line.endswith("...")] == []
