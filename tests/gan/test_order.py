"""The order of a training: each class as often as asked for, every image in its turn, a function of the position."""

from collections import Counter

import numpy as np
import pytest
from pydantic import ValidationError

from components.gan.order import balanced_order
from components.workspace.params import Train

# A long tail, classes in order as folders are, and one class without any image.
LABELS = np.repeat([0, 1, 3, 4], [50, 20, 3, 1])


def test_every_class_comes_equally_often_and_every_image_of_it() -> None:
    order = balanced_order(LABELS, 0)
    seen = order(0, 4 * 100)
    assert Counter(LABELS[seen].tolist()) == dict.fromkeys([0, 1, 3, 4], 100)
    assert {*seen.tolist()} == {*range(len(LABELS))}
    # Evenly: after any number of rounds, and images of a class differ by one visit at most.
    for rounds in (1, 7, 50):
        assert len({*Counter(LABELS[order(0, 4 * rounds)].tolist()).values()}) == 1
    for label in (0, 1, 3):
        visits = Counter(seen[LABELS[seen] == label].tolist()).values()
        assert max(visits) - min(visits) <= 1
    # The places within a round are drawn, and so are images.
    assert len({tuple(LABELS[order(4 * i, 4 * i + 4)]) for i in range(50)}) > 10
    assert not np.array_equal(order(0, 400), balanced_order(LABELS, 1)(0, 400))


def test_a_position_says_which_image_it_is() -> None:
    order = balanced_order(LABELS, 3)
    whole = order(0, 300)
    again = balanced_order(LABELS, 3)
    for first, last in ((250, 300), (0, 1), (13, 14), (7, 113), (0, 300)):
        assert np.array_equal(again(first, last), whole[first:last])


def test_a_network_that_is_not_told_the_class_cannot_balance_them() -> None:
    with pytest.raises(ValidationError, match="needs a network that is told the class"):
        Train.model_validate({"network": {"name": "mlp"}, "sampling": "balanced"})
    assert "sampling" not in Train().hashed
    assert Train.model_validate({"sampling": "balanced"}).hashed["sampling"] == "balanced"
