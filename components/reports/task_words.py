"""What people are told of an image task: what a model of it does, and what it is given."""

from __future__ import annotations

from typing import NamedTuple

from ..gan.tasks.options import AnyTask, Colorize, Inpaint, Restore, Restyle, SuperResolve, Translate


class TaskWords(NamedTuple):
    """Words of a task: pictures are `done`, the model `does` it to pictures, and is `given` something of them."""

    done: str
    does: str
    given: str


def words_of(task: AnyTask) -> TaskWords:
    """Return the words of an image task.

    Raises:
        ValueError: images are made from noise.
    """
    match task:
        case SuperResolve(factor=factor):
            does = f"Enlarges pictures {factor} times"
            return TaskWords(
                f"enlarged {factor} times", does, f"pictures that were shrunk {factor} times by bicubic weights"
            )
        case Inpaint(share=(least, most), kinds=kinds):
            holes = f"pictures with holes ({', '.join(kinds)}) of {least:.0%} to {most:.0%} of their pixels"
            return TaskWords("repaired", "Repaints what a mask shows of pictures", holes)
        case Colorize():
            return TaskWords("coloured", "Colours black-and-white pictures", "the brightness of pictures")
        case Restore():
            return TaskWords("restored", "Restores worn pictures", _worn(task))
        case Translate():
            return TaskWords(
                "translated", "Makes the pictures that belong to others", "the other pictures of the pairs"
            )
        case Restyle():
            return TaskWords("restyled", "Carries pictures into another class", "pictures of other classes")
    raise ValueError("images from noise are given nothing")


def _worn(task: Restore) -> str:
    kinds = [
        f"blurred by {task.blur[0]:g} to {task.blur[1]:g} pixels" if task.blur[1] else "",
        f"noisy by {task.noise[0]:g} to {task.noise[1]:g} grey levels" if task.noise[1] else "",
        f"stored as a JPEG of quality {task.jpeg[0]} to {task.jpeg[1]}" if task.jpeg else "",
        f"darkened by {task.darkness[0]:.0%} to {task.darkness[1]:.0%}" if task.darkness[1] else "",
        f"of {task.contrast[0]:.0%} to {task.contrast[1]:.0%} of their contrast" if task.contrast[0] < 1 else "",
    ]
    return f"pictures that are {', '.join(filter(None, kinds)) or 'as they were'}"
