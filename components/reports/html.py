"""What all pages share: one environment of templates, one form of numbers, and pictures that stand in the page."""

from __future__ import annotations

import base64
import io
import math
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from PIL import Image


def to_html(template: str, **values: Any) -> str:
    """Fill in a template of this folder: values are escaped, and one that is missing is an error."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "count": "{:,}".format, "sentence": sentence}
    return environment


def number(value: float, digits: int = 4, form: str | None = None) -> str:
    """`value` in `form`, else to so many digits or to a whole number; a dash where it is no number.

    The minus sign is a true one (U+2212).
    """
    if not math.isfinite(value):
        return "\u2013"
    form = form or ("{:,.0f}" if abs(value) >= 10 ** (digits - 1) else f"{{:.{digits}g}}")
    return form.format(value).replace("-", "\u2212")


def sentence(text: str) -> str:
    """`text` with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '!', '?')) else '.'}"


def data_uri(kind: str, content: bytes) -> str:
    """Return the address of a picture that holds the picture itself; `kind`: `png`, `webp`."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def image_uri(image: Image.Image, kind: str = "png", **options: Any) -> str:
    """`data_uri` of an image, encoded by Pillow with these options."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return data_uri(kind, buffer.getvalue())
