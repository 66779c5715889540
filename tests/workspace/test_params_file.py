"""A value in `params.yaml` is changed, and every other character stays as the user wrote it."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
import yaml

from components.gan.errors import UserError
from components.gan.options import Ramp
from components.sweep import write
from components.workspace.params import Params
from components.workspace.params_file import rewritten
from tests.conftest import PROJECT

# Forms that a user's file may have; each holds `train.seed: 0` alone on its line or in braces.
FORMS = {
    "the project's own": (PROJECT / "params.yaml").read_text(),
    "four spaces": "train:\n    network:\n        name: mlp\n    seed: 0\n",
    "mixed indentation": "preprocess:\n    resolution: 28\ntrain:\n  seed: 0\n",
    "lists at the key": "postprocess:\n  steps:\n  - {name: a}\n  - {name: b}\ntrain:\n  seed: 0\n",
    "lists indented": "postprocess:\n  steps:\n    - {name: a}\n    - {name: b}\ntrain:\n  seed: 0\n",
    "lists of both kinds": "postprocess:\n  steps:\n    - a\nother:\n- b\ntrain:\n  seed: 0\n",
    "spaces in braces": "train: { seed: 0,  images: 64 }\n",
    "braces over lines": "train:\n  network: {\n    name: mlp,  # small\n    latent: 50,\n  }\n  seed: 0\n",
    "a long line of braces": f"postprocess: {{steps: [{', '.join('{name: upscale}' for _ in range(20))}]}}\n"
    "train:\n  seed: 0\n",
    "a long quoted line": f"register:\n  name: '{'word ' * 40}'\ntrain:\n  seed: 0\n",
    "a long plain line": f"register:\n  name: {'word ' * 40}x\ntrain:\n  seed: 0\n",
    "a literal block": "register:\n  name: |\n    a\n    b\ntrain:\n  seed: 0\n",
    "a folded block": "register:\n  name: >-\n    a\n    b\ntrain:\n  seed: 0\n",
    "quotes": "register: {name: \"a\"}\ntrain:\n  'seed': 0\n",
    "an escape": 'register:\n  name: "\\u00e9"\ntrain:\n  seed: 0\n',
    "line ends of Windows": "train:\r\n  seed: 0  # luck\r\n  batch: 64\r\n",
    "line ends of both kinds": "register: {name: a}\r\ntrain:\n  seed: 0\n  batch: 64\n",
    "no line end": "train:\n  seed: 0",
    "a byte order mark": "\ufefftrain:\n  seed: 0\n",
    "aligned comments": "train:\n  batch: 64    # many\n  seed: 0      # luck\n",
    "comments between": "train:\n  # luck\n  seed: 0\n\n# next\n\n# last\n",
    "aligned values": "train:\n  seed:   0\n  batch:  64\n",
    "blank lines": "\n\ntrain:\n\n  seed: 0\n\n\n  batch: 64\n\n",
    "blanks at line ends": "train:  \n  seed: 0   \n  batch: 64\n",
    "null": "retrain:\n  inbox: ~\n  notify: null\n  x:\ntrain:\n  seed: 0\n",
    "words that are true": "preprocess:\n  x: yes\n  y: on\n  z: No\ntrain:\n  seed: 0\n",
    "numbers": "train:\n  a: 1e-3\n  b: 2E-3\n  c: .5\n  d: 1.50\n  e: 1_000\n  f: 017\n  g: 0x1F\n  seed: 0\n",
    "anchors": "x: &x {a: 1}\ny: {<<: *x}\ntrain:\n  seed: 0\n",
    "marks of a document": "%YAML 1.1\n---\ntrain:\n  seed: 0\n...\n",
    "a tag": "train:\n  batch: !!int 64\n  seed: 0\n",
}


def difference(before: str, after: str) -> list[str]:
    """The characters that came and went, in pieces: `+text` or `-text`."""
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    pieces = []
    for kind, i, j, k, n in matcher.get_opcodes():
        pieces += [f"-{before[i:j]}"] * (kind in ("delete", "replace"))
        pieces += [f"+{after[k:n]}"] * (kind in ("insert", "replace"))
    return pieces


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_whatever_the_form_only_the_value_changes(text: str) -> None:
    assert difference(text, rewritten(text, {"train.seed": 7})) == ["-0", "+7"]
    added = rewritten(text, {"train.r1_gamma": 0.5})
    pieces = difference(text, added)
    assert all(piece.startswith("+") for piece in pieces)
    assert "".join(piece[1:] for piece in pieces).strip(" ,\r\n") == "r1_gamma: 0.5"
    values = yaml.safe_load(text)
    values["train"]["r1_gamma"] = 0.5
    assert yaml.safe_load(added) == values
    if text.count("\n") == text.count("\r\n"):
        assert added.count("\n") == added.count("\r\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("train:  # all\n  r1_gamma: 1  # one\n  seed: 0\n", "train:  # all\n  r1_gamma: 0.5  # one\n  seed: 0\n"),
        (
            "train:\n  seed: 0  # luck\n\n# next\nevaluate: {}\n",
            "train:\n  seed: 0  # luck\n  r1_gamma: 0.5\n\n# next\nevaluate: {}\n",
        ),
        ("train:\n    network:\n        name: mlp\n", "train:\n    network:\n        name: mlp\n    r1_gamma: 0.5\n"),
        ("train: {seed: 0}\n", "train: {r1_gamma: 0.5, seed: 0}\n"),
        ("train: {}", "train: {r1_gamma: 0.5}"),
        ("train:\n  r1_gamma:\n  seed: 0\n", "train:\n  r1_gamma: 0.5\n  seed: 0\n"),
        ("evaluate:\n  samples: 500", "evaluate:\n  samples: 500\ntrain:\n  r1_gamma: 0.5"),
        ("# nothing\n", "# nothing\ntrain:\n  r1_gamma: 0.5\n"),
        ("# nothing\r\n", "# nothing\r\ntrain:\r\n  r1_gamma: 0.5\r\n"),
        ("", "train:\n  r1_gamma: 0.5\n"),
        ("train:\n  r1_gamma:\n    start: 2\n    end: 1\n  seed: 0\n", "train:\n  r1_gamma:\n    0.5\n  seed: 0\n"),
    ],
)
def test_a_value_is_written_and_all_else_stays(before: str, after: str) -> None:
    assert rewritten(before, {"train.r1_gamma": 0.5}) == after


def test_keys_below_a_key_are_written_too(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("train:\n  batch: 64\n")
    write(path, {"train.network.name": "mlp", "train.r1_gamma": {"start": 2.0, "end": 1.0}, "train.batch": 32})
    assert path.read_text() == "train:\n  batch: 32\n  network:\n    name: mlp\n  r1_gamma: {start: 2.0, end: 1.0}\n"
    assert Params.load(path).train.r1_gamma == Ramp(start=2, end=1)
    assert [file.name for file in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("train: {batch: &b 64, seed: *b}", "train.seed"),
        ("train: &t\n  seed: 0\nother:\n  <<: *t\n", "train.batch"),
    ],
)
def test_a_form_in_which_more_would_change_is_refused(text: str, key: str) -> None:
    with pytest.raises(UserError, match="edit it by hand"):
        rewritten(text, {key: 7})


@pytest.mark.parametrize("text", ["train:\n  batch: 32\n  batch: 64\n  seed: 0\n", "train: {seed: 1, seed: 2}\n"])
def test_a_key_that_stands_twice_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="stands twice, in line"):
        rewritten(text, {"train.seed": 7})
