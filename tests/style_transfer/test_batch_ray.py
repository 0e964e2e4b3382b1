"""Batches on a Ray cluster of two nodes, one of which is killed midway."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest
from batch_helpers import content_of, slower_copy

from apps.style_transfer.batches.batch import plan, run
from apps.style_transfer.batches.engines import Outcome
from apps.style_transfer.batches.manifest import MANIFEST

# Ray's own, about its own future.
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_node_is_killed_midway_and_every_picture_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray.cluster_utils import Cluster

    from apps.style_transfer.batches.ray_engine import Ray

    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[2]}{os.pathsep}{Path(__file__).parent}")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    shots, out = tmp_path / "shots", tmp_path / "out"
    shots.mkdir()
    for i in range(12):
        (shots / f"{i}.jpg").write_text(f"original {i}")
    (shots / "bad.jpg").write_text("bad")
    tasks = plan([shots], {"a": [], "b": []}, out)
    node = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        second = cluster.add_node(num_cpus=2, object_store_memory=80_000_000)
        ray.init(address=cluster.address, log_to_driver=False)
        outcomes: list[Outcome] = []

        def progress(outcome: Outcome) -> None:
            outcomes.append(outcome)
            if len(outcomes) == 10:
                cluster.remove_node(second, allow_graceful=False)

        report = run(tasks, slower_copy, engine=Ray(), progress=progress)
    finally:
        ray.shutdown()
        cluster.shutdown()
    good = [task for task in tasks if task.content.name != "bad.jpg"]
    assert report.done == len(good)
    assert [outcome.error for outcome in report.failed] == [f"{shots / 'bad.jpg'} is bad: mend it"] * 2
    assert len(outcomes) == len(tasks)
    for task in good:
        assert task.output.read_bytes() == content_of(task)
    assert sorted(os.listdir(out)) == sorted([MANIFEST, *(task.output.name for task in good)])
    entries = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    assert Counter(entry["output"] for entry in entries) == Counter(task.output.name for task in tasks)
    processes = {line.split()[1] for line in (shots / "begun.log").read_text().splitlines()}
    assert len(processes) > 2  # so both nodes have worked


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from apps.style_transfer.batches.ray_engine import Ray

    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ValueError, match=r"--engine ray needs Ray: pip install 'unroll-style\[ray\]'"):
        Ray()
