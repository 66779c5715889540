"""The two pictures of a pair -> pixels of one size: in both the same part of the picture, cut and scaled alike."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from ...workspace.params import Preprocess
from ..decoding import Array, Decoded, Given, Look, Whole, decoded, look, read_source, reason_of, whole_of
from ..parts import Content, PairContent
from ..patches import patches


def images_of(content: Content, options: Preprocess, shape: tuple[int, int] | None) -> Iterator[Decoded | str]:
    """Yield what is made of one file, or of the two of a pair, or why there is nothing."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, PairContent) or options.halves:
        yield from decoded_pair(content, options)
    else:
        yield from decoded(content, options, shape)


def look_at(content: Content, options: Preprocess, shape: tuple[int, int] | None) -> Look | str:
    """Tell what a file holds, of a pair its target; or why it cannot be told."""
    image = content.target if isinstance(content, PairContent) else content
    looked = image if isinstance(image, str) else look(image, options, shape)
    if options.halves and isinstance(looked, Look):
        return looked._replace(size=(looked.size[0] // 2, looked.size[1]))
    return looked


def decoded_pair(content: bytes | PairContent, options: Preprocess) -> Iterator[Decoded | str]:
    """Yield the images of a pair, each with its input, or why there are none: one, or many pieces of a photo.

    Bytes are those of one file that shows both pictures side by side.
    """
    try:
        if isinstance(content, bytes):
            target, given = _halves(read_source(content, options), options)
        elif isinstance(content.target, str):
            raise ValueError(content.target)
        else:
            target, given = read_source(content.target, options), _input(content.input, options)
        yield from _together(whole_of(target, options), whole_of(given, options), options)
    except Exception as error:
        yield reason_of(error)


def _input(content: bytes | str, options: Preprocess) -> Image.Image | Array:
    """Return the source of an input; whatever is wrong is said to be so of the input."""
    if isinstance(content, str):
        raise ValueError(f"its input: {content}")
    try:
        return read_source(content, options)
    except Exception as error:
        raise ValueError(f"its input: {reason_of(error)}") from None


def _halves(both: Image.Image | Array, options: Preprocess) -> tuple[Image.Image | Array, Image.Image | Array]:
    """Return target and input of a picture that shows them side by side."""
    width = both.width if isinstance(both, Image.Image) else both.shape[1]
    if width % 2:
        raise ValueError(f"its width of {width} pixels is odd, so it has no two equal halves")
    middle = width // 2
    if isinstance(both, Image.Image):
        left, right = (both.crop((start, 0, start + middle, both.height)) for start in (0, middle))
        return (right, left) if options.input == "left" else (left, right)
    first, second = both[:, :middle], both[:, middle:]
    return (second, first) if options.input == "left" else (first, second)


def _together(target: Whole, given: Whole, options: Preprocess) -> Iterator[Decoded]:
    """Yield images made of both alike: the input is brought to the size of the target first."""
    identity = given.traits.identity
    if given.size != target.size:
        _check_sizes(target.size, given.size, options)
        given = given.scaled(target.size)
    image, source = target.made(options), given.made(options)
    largest = max(image.largest, source.largest)
    if options.fit != "patches":
        yield image._replace(largest=largest, given=Given(source.pixels, identity))
        return
    # One identity draws the same pieces of both.
    cut = (patches(pixels, target.traits.identity, options) for pixels in (image.pixels, source.pixels))
    for piece, other in zip(*cut, strict=True):
        yield Decoded(piece, target.traits, largest, Given(other, identity))


def _check_sizes(target: tuple[int, int], given: tuple[int, int], options: Preprocess) -> None:
    """Refuse an input that is not the same part of the world as its target, to within a pixel of the smaller one.

    Raises:
        ValueError: it has another shape; or it is no whole number of times smaller or larger, where pieces are cut,
            whose pixels must lie on those of the target.
    """
    (width, height), (other_width, other_height) = sorted((target, given), reverse=True)
    shown = f"its input has {given[0]}x{given[1]} pixels, which is another shape than {target[0]}x{target[1]}"
    if abs(width * other_height - height * other_width) >= max(width, height):
        raise ValueError(shown)
    whole = width % other_width == 0 and height == other_height * (width // other_width)
    if options.fit == "patches" and not whole:
        raise ValueError(f"{shown} or a whole number of times smaller or larger, which preprocess.fit: patches needs")
