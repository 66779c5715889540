"""New images against those that the champion learned from, and how they become data."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import kstest

from components.ingest.inbox.inbox import arrived, ingest
from components.measures.distances import kernel_distance
from components.measures.two_sample import one_of_each, two_sample
from components.workspace.params import Preprocess
from components.workspace.workspace import Workspace
from tests.conftest import Pixels, ganflow, refused, succeeded


def test_statistic_is_the_unbiased_kernel_distance() -> None:
    rng = np.random.default_rng(0)
    new, reference = rng.normal(size=(30, 6)), rng.normal(size=(50, 6)) + 1.5
    found = two_sample(new, reference, 200, np.random.default_rng(1))
    scale = np.sqrt(np.square(np.concatenate([new, reference])).mean())
    assert found.statistic == pytest.approx(kernel_distance(new / scale, reference / scale))
    assert found.p_value == pytest.approx(1 / 201)


def test_permutations_by_one_product_are_those_made_one_by_one() -> None:
    rng = np.random.default_rng(2)
    new, reference = rng.normal(size=(12, 3)), rng.normal(size=(20, 3)) + 0.2
    found = two_sample(new, reference, 300, np.random.default_rng(3))
    both = np.concatenate([new, reference])
    both /= np.sqrt(np.square(both).mean())
    again, at_least = np.random.default_rng(3), 0
    for _ in range(300):
        chosen = again.permutation(32)[:12]
        rest = np.setdiff1d(np.arange(32), chosen)
        at_least += kernel_distance(both[chosen], both[rest]) >= found.statistic - 1e-9
    assert found.p_value == pytest.approx((1 + at_least) / 301)


def test_without_a_difference_every_p_value_is_as_likely() -> None:
    rng = np.random.default_rng(4)
    values = [
        two_sample(rng.normal(size=(20, 4)), rng.normal(size=(40, 4)), 99, np.random.default_rng(seed)).p_value
        for seed in range(300)
    ]
    # P-values are multiples of 1 / 100.
    assert kstest(np.array(values) - rng.uniform(0, 0.01, 300), "uniform").pvalue > 0.001


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Workspace:
    root = tmp_path / "copy"
    shutil.copytree(finished, root)
    (root / "params.yaml").write_text((root / "params.yaml").read_text() + "retrain: {inbox: ../incoming}\n")
    (tmp_path / "incoming").mkdir()
    return Workspace(root)


# The data are an IDX pair, to which pictures are another kind.
ALL = Preprocess(source="all")


def put(folder: Path, name: str, pixels: Pixels, age: float = 60) -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    os.utime(file, (time.time() - age, time.time() - age))
    return file


def test_unlike_images_raise_an_alarm_and_like_ones_do_not(workspace: Workspace, digits: tuple[Pixels, Pixels]) -> None:
    incoming = workspace.root.parent / "incoming"
    for index in range(20):
        put(incoming, f"{index}.png", digits[0][1000 + index])
    assert "20 new images are too few" in succeeded(ganflow(workspace.root, "drift"))
    for index in range(20, 120):
        put(incoming, f"{index}.png", digits[0][1000 + index])
    assert "120 new images look like what version 1 learned from" in succeeded(ganflow(workspace.root, "drift"))
    for index in range(120):
        put(incoming, f"{index}.png", 255 - digits[0][1000 + index])
    # What the champion learned from is known, though artifacts/ may hold other data.
    shutil.rmtree(workspace.dataset)
    assert "120 new images differ from what version 1 learned from" in succeeded(ganflow(workspace.root, "drift"))
    shutil.rmtree(workspace.state / "drift")
    assert "ganflow run" in refused(workspace.root, "drift")


def test_files_become_data_once_and_replace_nothing(workspace: Workspace, digits: tuple[Pixels, Pixels]) -> None:
    incoming = workspace.root.parent / "incoming"
    put(incoming, "sevens/a.png", digits[0][0])
    put(incoming, "sevens/b.png", digits[0][1])
    put(incoming, "still.png", digits[0][2], age=0)
    put(incoming, ".hidden.png", digits[0][3])
    (incoming / "half.part").write_bytes(b"half")
    before = {file.name: file.read_bytes() for file in workspace.data.iterdir()}
    assert ingest("../incoming", workspace, ALL) == (["sevens/a.png", "sevens/b.png"], {})
    assert ingest("../incoming", workspace, ALL) == ([], {})
    changed = put(incoming, "sevens/a.png", digits[0][4])
    (added,) = ingest("../incoming", workspace, ALL).added
    assert added.startswith("sevens/a-")
    assert (workspace.data / added).read_bytes() == changed.read_bytes()
    assert (
        before.items() <= {file.name: file.read_bytes() for file in workspace.data.iterdir() if file.is_file()}.items()
    )


def test_an_inbox_that_is_not_there_or_holds_the_data_is_refused(workspace: Workspace) -> None:
    assert "there is no folder" in refused(workspace.root, "drift", "--set", "retrain.inbox=nowhere")
    assert "hold each other" in refused(workspace.root, "drift", "--set", "retrain.inbox=.")
    assert "retrain.inbox" in refused(workspace.root, "drift", "--set", "retrain.inbox=null")


def test_the_address_of_a_folder_is_an_inbox(workspace: Workspace, digits: tuple[Pixels, Pixels]) -> None:
    bucket = workspace.root.parent / "bucket"
    put(bucket, "eights/a.png", digits[0][0])
    files = arrived(bucket.as_uri(), workspace).files
    assert list(files) == ["eights/a.png"]


@pytest.mark.parametrize("frames", [1, 5])
def test_frames_of_one_file_raise_no_alarm(frames: int) -> None:
    """The named finding: with five frames a file 100 ticks of 100 without drift were alarms, at a rate of 0.05."""
    rng = np.random.default_rng(5)

    def files(count: int) -> tuple[np.ndarray, np.ndarray]:
        films = rng.normal(size=(count, 1, 6)) + rng.normal(size=(count, frames, 6)) * 0.05
        return films.reshape(-1, 6), np.repeat(np.arange(count), frames)

    def p_value(each: bool, seed: int) -> float:
        sides = [(x[one_of_each(of)] if each else x) for x, of in (files(25), files(40))]
        return two_sample(sides[0], sides[1], 99, np.random.default_rng(seed)).p_value

    values = np.array([p_value(True, seed) for seed in range(200)])
    assert kstest(values - rng.uniform(0, 0.01, 200), "uniform").pvalue > 0.001
    if frames > 1:
        assert np.mean([p_value(False, seed) <= 0.05 for seed in range(40)]) > 0.5


def test_one_of_each_is_any_of_them_by_chance_and_in_order() -> None:
    groups = np.array([3, 3, 1, 3, 2, 1])
    assert one_of_each(groups).tolist() == [0, 2, 4]
    assert one_of_each(groups, np.array([5, 4, 3, 1, 9, 2], np.uint64)).tolist() == [3, 4, 5]
