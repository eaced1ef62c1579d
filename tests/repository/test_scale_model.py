"""The cost model on paper: what it computes, and that the page shows it."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("duckdb")


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import scale_model

    yield scale_model
    sys.modules.pop("scale_model", None)


def measured(one: float, two: float, **others: float):
    speeds = {"one thread": [99.0], "local 1": [one], "local 2": [two], "ray 1": [one], "ray 2": [two + 1]}
    whole = {name: [1.0] for name in speeds if name != "one thread"}
    return {"speeds": speeds, "whole": whole, "bytes_read": 1e6, "bytes_written": 500.0, **others}


def test_costs_are_those_of_the_slower_engine_with_all_cores_at_work(model):
    costs = model.Costs.of(measured(20.0, 32.0))
    assert costs.engine == "local"
    assert costs.seconds == pytest.approx(0.05)
    assert costs.busy == pytest.approx(2 / 32)


def test_tables(model):
    batch = {
        "about": {"processor": "Abacus", "cores": 2},
        "sets": {"scenes": measured(20.0, 32.0)},
        "listing": {"pictures": 1000, "seconds": 0.01, "bytes": 30_000},
    }
    requests = {name: {"GET": 1.0} for name in ("per_picture", "per_part", "per_shard", "per_part_resumed")}
    text = model.tables(batch, {**requests, "per_part_summarized": {"GET": 3.0}})
    # 10^8 pictures of 1/16 s: 1,736 core hours; 16 cores of a node take 4.5 days.
    assert "| 100 million | 1,736 | 4.52 days | 10.9 h | 65.1 min | 100 TB | 50 GB | 2.05 Gbit/s |" in text
    assert "| listing and planning, local folders | 10 s | 16.7 min |" in text
    assert "| the plan | 30 MB | 3 GB |" in text


@pytest.mark.skipif(not (ROOT / "benchmarks" / "batch.json").is_file(), reason="not measured yet")
def test_the_page_is_fresh(model):
    stored = (json.loads((ROOT / "benchmarks" / name).read_text()) for name in ("batch.json", "batch_requests.json"))
    page = model.PAGE.read_text(encoding="utf-8")
    shown = page.partition(model.BEGIN)[2].partition(model.END)[0]
    assert shown.strip() == model.tables(*stored).strip()
