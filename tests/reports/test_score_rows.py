"""What people read of scores: what a perfect generator would get beside each value, and none is better."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from components.reports.scores import explanations, rating, score_rows
from components.workspace.scores import Scores

Pair = tuple[float, float, float]


def row_of(name: str, value: Pair, floor: Pair) -> object:
    scores = Scores.read({name: value[0], f"{name}_floor": floor[0]}, {name: value[1:], f"{name}_floor": floor[1:]})
    (row,) = score_rows(scores)
    return row.value, row.real, row.standing


@pytest.mark.parametrize(
    ("name", "value", "floor", "standing"),
    [
        ("kid_x_2k", (6.3, 5.9, 6.7), (9.5, 9.0, 10.0), "within"),
        ("kid_x_2k", (9.7, 9.3, 10.1), (9.5, 9.0, 10.0), "within"),
        ("kid_x_2k", (12.0, 11.0, 13.0), (9.5, 9.0, 10.0), "above"),
        ("recall_x_2k", (0.95, 0.94, 0.96), (0.9, 0.89, 0.91), "within"),
        ("recall_x_2k", (0.8, 0.78, 0.82), (0.9, 0.89, 0.91), "below"),
        ("msssim_class_1k", (0.3, 0.29, 0.31), (0.4, 0.39, 0.41), "below"),
        ("msssim_class_1k", (0.5, 0.49, 0.51), (0.4, 0.39, 0.41), "above"),
        ("copied_pixels_500", (0.0, 0.0, 0.007), (0.01, 0.003, 0.02), "within"),
    ],
)
def test_beyond_real_images_is_within_what_they_get(name: str, value: Pair, floor: Pair, standing: str) -> None:
    _, real, found = row_of(name, value, floor)
    assert found == f"{standing} what real images get"
    assert re.fullmatch(r".+ \(.+ to .+\)", real)


def test_every_score_of_samples_says_what_a_perfect_generator_would_get() -> None:
    for each in explanations():
        # A side on which it is worse than real images is measured beside them, all else is said in words.
        assert each.worse or each.perfect, each


def test_no_value_stands_beside_the_floor_of_another_number_of_images() -> None:
    scores = Scores.read({"fd_x_8k": 0.75, "fd_x_2k": 1.71, "fd_x_2k_floor": 3.88, "kid_x_8k": 1.0})
    assert [(row.name, row.real) for row in score_rows(scores)] == [("fd_x_2k", "3.9"), ("kid_x_8k", "")]
    every = score_rows(scores, scores.compared())
    assert [(row.name, row.real) for row in every][1:] == [("fd_x_8k", "not so many: see fd_x_2k"), ("kid_x_8k", "")]


def test_planted_copies_are_told_beside_each_number_of_samples() -> None:
    planted = {"copied_pixels_500": 0.0, "copied_pixels_500_canaries": 0.99, "copied_pixels_140": 0.0}
    (row,) = score_rows(Scores.read({**planted, "copied_pixels_140_floor": 0.01}))
    assert (row.name, row.floor) == ("copied_pixels_140", "1.0%")
    assert "99% were found" in row.text


def test_the_rating_calls_nothing_better_than_real() -> None:
    found = rating(Scores.read({"agreement_x_2k": 0.99, "agreement_x_2k_floor": 0.97}), conditional=True)
    assert found is not None
    assert found.reason.endswith("(real images 97.0%), within what real images get")


@pytest.mark.parametrize(
    ("value", "reading"),
    [
        ((0.9, 0.86, 0.92), "realism within what real images get"),
        ((0.88, 0.87, 0.895), "realism a little below what real images get"),
        ((0.7, 0.68, 0.72), "realism below what real images get"),
        ((0.3, 0.28, 0.32), "realism far below what real images get"),
        ((0.7, 0.3, 0.95), "realism within what real images get, as far as so few samples tell"),
    ],
)
def test_rating_and_table_read_a_score_alike(value: Pair, reading: str) -> None:
    name, floor = "precision_x_2k", (0.91, 0.9, 0.92)
    scores = Scores.read({name: value[0], f"{name}_floor": floor[0]}, {name: value[1:], f"{name}_floor": floor[1:]})
    found, (row,) = rating(scores, conditional=False), score_rows(scores)
    assert found is not None
    assert found.reason.startswith(f"{reading} (precision ")
    assert row.standing in found.reason


def test_more_look_alikes_than_real_images_have_are_not_called_no_sign_of_copies() -> None:
    values, ends = {"copied_x_500": 0.02, "copied_x_500_floor": 0.004}, {"copied_x_500": (0.015, 0.03)}
    found = rating(Scores.read(values, ends | {"copied_x_500_floor": (0.0, 0.01)}), conditional=False)
    assert found is not None
    assert found.reason.startswith("more look-alikes of training images than real ones have")


def test_no_text_speaks_of_better_than_real() -> None:
    root = Path(__file__).parents[2]
    pages = [*(root / "components" / "reports").iterdir(), *(root / "docs").glob("*.md"), root / "README.md"]
    for page in filter(Path.is_file, pages):
        if page.suffix in (".jinja", ".toml", ".md", ".py"):
            assert "better than real" not in page.read_text().replace("\n", " "), page
