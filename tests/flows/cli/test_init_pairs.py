"""From folders of pairs, or of domains, to a workspace: what is proposed, said and shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.pictures.tiles import GAP
from components.workspace.params import Params
from tests.conftest import ganflow, refused, succeeded
from tests.ingest.test_pairs import encoded, given, pairs, picture, target

Lay = Callable[[Path], None]


def put(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        path = root / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def init(root: Path, *more: str) -> tuple[str, Params]:
    out = succeeded(ganflow(root, "init", "--data", "pictures", "--workspace", "w", *more))
    return out, Params.load(root / "w" / "params.yaml")


def test_pairs_are_proposed_and_shown_and_then_made(tmp_path: Path) -> None:
    put(tmp_path, pairs("A/{s}/{i}.png", "B/{s}/{i}.png", 60))
    put(tmp_path, {"A/train/alone.png": given(700)})
    out, params = init(tmp_path, "--task", "translate")
    assert params.preprocess.input == "A" and params.train.task.name == "translate"
    assert "preprocess.input is A: pictures in A and B have equal names" in out
    assert "60 by equal names: inputs in A, what is made of them in B; 1 without a partner" in out
    assert (
        "pairs        60 of 16x16, RGB" in out and "15 held-out pairs: with fewer than 20 the gate will abstain" in out
    )
    sheet = np.asarray(Image.open(tmp_path / "w" / "survey.png")).astype(int)
    # Its tiles are 128 wide; an input is the negative of its image.
    first, second = (sheet[GAP : GAP + 128, start : start + 128] for start in (GAP, 2 * GAP + 128))
    assert (first + second == 255).all()
    succeeded(ganflow(tmp_path / "w", "preprocess"))
    assert "alone.png" in (tmp_path / "w" / "artifacts" / "dataset" / "rejected.csv").read_text()


def test_the_direction_can_be_said(tmp_path: Path) -> None:
    put(tmp_path, {f"{i}.png": encoded(np.concatenate([255 - picture(i), picture(i)], 1)) for i in range(48)})
    out, params = init(tmp_path, "--task", "translate", "--input", "right")
    assert params.preprocess.input == "right" and "16x16" in out


def test_domains_are_proposed_with_their_splits(tmp_path: Path) -> None:
    files = pairs("{s}A/{i}.png", "{s}B/{i}.png", 60)
    put(tmp_path, files)
    out, params = init(tmp_path, "--task", "restyle")
    assert params.preprocess.input is None and params.train.task.name == "restyle"
    assert "classes      2: A 60, B 60" in out and "training 90, holdout 30" in out
    assert "names        of A and B agree, as those of pairs do" in out


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        (pairs("trainA/a{i}.png", "trainB/b{i}.png", 8), ("--task", "translate"), "so they are no pairs"),
        (pairs("x/a{i}.png", "y/b{i}.png", 8), ("--task", "translate"), "no pairs are recognised"),
        (pairs("A/{i}.png", "A/b{i}.png", 8), ("--task", "restyle"), "two domains or more"),
        (pairs("A/{i}.png", "A/b{i}.png", 8) | {"B/1.png": target(1)}, ("--task", "restyle"), "the domain B has one"),
        (
            pairs("A/{i}.png", "A/b{i}.png", 8) | {"B/1.png": b"", "B/2.png": b"x"},
            ("--task", "restyle"),
            "the domain B has no picture that can be read",
        ),
        (pairs("A/{i}.png", "B/{i}.png", 8), ("--input", "A"), "add --task translate"),
    ],
)
def test_what_can_be_no_pairs_or_domains_is_refused(
    tmp_path: Path, files: dict[str, bytes], options: tuple[str, ...], sentence: str
) -> None:
    put(tmp_path, files)
    said = refused(tmp_path, "init", "--data", "pictures", "--workspace", "w", *options)
    assert sentence in said and not (tmp_path / "w").exists()
