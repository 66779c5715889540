"""Names of classes in pictures: each in a font that has its letters, or by number."""

from __future__ import annotations

import pytest
from PIL import Image, ImageDraw

from components.pictures import lettering
from components.pictures.lettering import lettering as chosen


def drawn(text: str, font: object) -> bytes:
    image = Image.new("L", (200, 40))
    ImageDraw.Draw(image).text((5, 5), text, 255, font)  # type: ignore[arg-type]
    return image.tobytes()


@pytest.mark.parametrize(
    "names", [["猫", "狗"], ["ねこ", "イヌ"], ["고양이", "개"], ["Кошка", "Собака"], ["γάτα", "σκύλος"]]
)
def test_names_of_other_alphabets_are_written(names: list[str]) -> None:
    font, shown = chosen(names, 20)
    assert shown == names
    # A font draws the same box for all letters that it lacks.
    assert drawn(names[0][0], font) != drawn(names[1][0], font) != drawn("\U0010ffff", font)


def test_names_without_a_font_are_numbered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(lettering, "_installed", lambda: ())
    _, shown = chosen(["cat", "猫", "Кошка"], 20)
    assert shown == ["cat", "class 1", "Кошка"]
    assert "numbers 1 classes" in capsys.readouterr().err
