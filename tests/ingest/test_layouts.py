"""Every layout that people have gives the classes and splits that it states, and accounts for every file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from components.gan.errors import UserError
from components.ingest.formats import find_raw_images
from components.ingest.parts import BY_CONTENT, DEVELOPMENT, HOLDOUT, TRAINING, Source
from components.workspace.params import Preprocess
from tests.ingest.layouts import CASES


def look(data: Path, **options: object) -> Source:
    scratch = data.parent / "scratch"
    scratch.mkdir(exist_ok=True)
    return find_raw_images(data, scratch, 5, Preprocess(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_a_layout_is_read_as_it_is_meant(tmp_path: Path, name: str) -> None:
    case, data = CASES[name], tmp_path / "data"
    case.write(data)
    files = sum(path.is_file() for path in data.rglob("*"))
    if case.refused:
        with pytest.raises(UserError, match=case.refused) as refusal:
            look(data, **case.options)
        assert "\n" not in str(refusal.value)
        return
    source = look(data, **case.options)
    labels = Counter(source.classes[label] for part in source.parts for label in part.labels)
    splits = Counter(int(split) for part in source.parts for split in part.splits)
    said = "; ".join(note.text for note in source.notes)
    told = f"{source.classes} {splits} {said}\n{source.left_out}\n{source.rejected}"
    assert dict(labels) == dict(case.classes), told
    counts = {TRAINING: case.training, HOLDOUT: case.holdout, DEVELOPMENT: case.development}
    assert {split: splits[split] for split in counts} == counts, told
    assert splits[BY_CONTENT] == 0 or not any(counts.values()), told
    assert len(source.left_out) == case.left_out, told
    assert len(source.rejected) == case.rejected, told
    assert case.notes in said, told
    assert files
