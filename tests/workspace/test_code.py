"""The digest of code: what it looks at, what it does not, and that every Python gets the same."""

from __future__ import annotations

import pytest

from components.workspace.code import code_digest

CODE = '''
"""What it does."""
import math
from ..gan.errors import UserError
from .losses import gradient, penalty as weight

STEPS: int = 3


class Row(NamedTuple):
    """A row."""

    images: int
    score: float = 0.5


@cache
def sums(values: list[float], *, scale: float = 1.0) -> dict[str, float]:
    """Add them."""
    total: float = 0.0
    for i, value in enumerate(values):
        total += value * scale  # each of them
    if not values:
        raise UserError(f"there is nothing in {values}: add something")
    if total < 0:
        raise ValueError("negative")
    print("done")
    bar = tqdm(total=STEPS, desc="sums", unit="img")
    return {f"a{total:.{STEPS}f}b" "c": weight(lambda x, /, *y, **z: x[1:, ...] or -1e-3, {**bar}, b"\\x00", 2j)}


async def more(a, b=None):
    match a:
        case [1, *_] | {"x": str(y)} if (n := b) is not None:
            return [x async for x in y if not x], {n for n in b}, await n
        case Row(images=0):
            pass
    with open(a) as f, b:
        yield from f
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  # each of them", "  # every one"),
        ("total += value * scale  #", "total += (\n            value\n            * scale\n        )  #"),
        ('"""Add them."""', '"""Sum up all that there is."""'),
        ('    """A row."""\n', ""),
        ('"""What it does."""\n', ""),
        ("values: list[float]", "values: Sequence[float]"),
        (") -> dict[str, float]:", "):"),
        ("total: float = 0.0", "total = 0.0"),
        ("STEPS: int = 3", "STEPS = 3"),
        ("there is nothing in {values}: add something", "nothing: {len(values)}"),
        ('print("done")', 'print("over", flush=True)'),
        ('    print("done")\n', ""),
        ('desc="sums", unit="img"', 'desc=f"sums of {scale}", unit="images"'),
        ("from .losses import", "from ..other.place import"),
        (
            "from .losses import gradient, penalty as weight",
            "from .losses import gradient\nfrom .a import penalty as weight",
        ),
        ("import math\nfrom ..gan.errors import UserError\n", "from ..gan.errors import UserError\nimport math\n"),
        ("import math\n", "from __future__ import annotations\n\nimport math\n"),
        ("import math\n", "import math\n\nif TYPE_CHECKING:\n    from .a import B\n"),
        ('f"a{total:.{STEPS}f}b" "c"', "f'a{total:.{STEPS}f}bc'"),
        ("0.5", ".5"),
    ],
)
def test_what_cannot_show_in_a_result_changes_nothing(old: str, new: str) -> None:
    assert old in CODE
    assert code_digest(CODE.replace(old, new).encode()) == code_digest(CODE.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("value * scale", "scale * value"),
        ("scale: float = 1.0", "scale: float = 2.0"),
        ("scale: float = 1.0", "scale: float = 1"),
        ("STEPS: int = 3", "STEPS: int = 4"),
        # It is a field, and pydantic would change what is given.
        ("images: int\n", "images: float\n"),
        ("    images: int\n", ""),
        ("*, scale", "scale"),
        ("@cache\n", ""),
        ("-1e-3", "1e-3"),
        ('"c": weight', '"d": weight'),
        (".{STEPS}f", ".{STEPS}e"),
        # Of the errors that Python has itself some are shown in the table of rejected files.
        ('ValueError("negative")', 'ValueError("less than 0")'),
        ("raise UserError(", "raise OtherError("),
        ("if total < 0", "if total <= 0"),
        ("import math", "import cmath as math"),
        ("penalty as weight", "gradient as weight"),
        ("async for x in y if not x", "async for x in y if x"),
        ("case Row(images=0)", "case Row(images=1)"),
        ("is not None", "is None"),
        ("        pass\n", "        return 1\n"),
    ],
)
def test_what_may_show_in_a_result_changes_the_digest(old: str, new: str) -> None:
    assert old in CODE
    assert code_digest(CODE.replace(old, new).encode()) != code_digest(CODE.encode())


def test_every_python_gets_the_same_digest() -> None:
    """Measured with Python 3.11, 3.12 and 3.13, whose syntax trees differ in their fields."""
    assert code_digest(CODE.encode())[:16] == "6947123f50cbb8d6"
