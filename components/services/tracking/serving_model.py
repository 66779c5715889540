"""The registered model as code: MLflow runs this file where the model is loaded or served.

Only `gan/` is packed with it, under a name that tells its code from that of every other version: a process may load
several of them, and have a module `gan` of its own. So it imports nothing else of the project.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import mlflow

MAX_IMAGES = 10_000
# Of a request: pixels of all pictures that are given, and of all that are made.
MAX_PIXELS, MAX_MADE = 16_000_000, 64_000_000
# Kinds of pictures that are read.
_FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP")
# IPTC's terms for a picture that was enlarged, restored or coloured, for one of which a part was painted, and for one
# that was carried over into another kind.
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
_MARK = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
    "<Iptc4xmpExt:DigitalSourceType>{}</Iptc4xmpExt:DigitalSourceType></rdf:Description></rdf:RDF></x:xmpmeta>"
)


class Generator(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Images by the parameters n, seed, truncation and class, without an input; or of an image task pictures.

    A picture is the bytes of its file, and so is what is made of it, a PNG.
    """

    def load_context(self, context: Any) -> None:
        # Beside the folder of the artifacts MLflow keeps the code, which it has made importable.
        (folder,) = Path(next(iter(context.artifacts.values()))).parents[1].glob("code/ganflow_*")
        package = folder.name
        published = import_module(f"{package}.published")
        self._labels_by_name = import_module(f"{package}.sampling").labels_by_name
        self._carrying = import_module(f"{package}.tasks.image_task").Carrying
        self._in_windows = import_module(f"{package}.tasks.windows").in_windows
        described = json.loads(Path(context.artifacts[published.MANIFEST]).read_text())
        described.pop("seal")
        manifest = published.Manifest.model_validate(described)
        weights = {name: manifest.check(name, Path(context.artifacts[name]).read_bytes()) for name in manifest.files}
        self._model = published.Published(manifest, weights)

    # Without type hints, which MLflow would take for the schema of the input.
    def predict(self, context, model_input, params=None):  # type: ignore[no-untyped-def]
        """(n, H, W, C) uint8: image i has the seed `seed + i`, and the class asked for or the classes in turn.

        Of an image task a table with the column `image`: for each row of the table that is given what is made of its
        `image`, of which a repair repaints what is white in its `mask`. `strength` 0 is what is made without a network.
        A model that carries pictures over takes the `class` that they are to become, if it knows several, and a `seed`,
        and takes them in their own size: they should have that of the training pictures.

        Raises:
            MlflowException: a parameter or a picture is not what it must be (answered as 400 by a server).
        """
        if self._model.task.name == "generate":
            return self._sampled(params or {})
        given = {"strength": 1.0, "class": "", "seed": 0, **(params or {})}
        return self._changed(model_input, float(given["strength"]), str(given["class"]), int(given["seed"]))

    def _sampled(self, params: dict[str, Any]) -> Any:
        given = {"n": 1, "seed": 0, "truncation": 1.0, "class": "", **params}
        n, seed, truncation = int(given["n"]), int(given["seed"]), float(given["truncation"])
        if not 1 <= n <= MAX_IMAGES:
            raise _invalid(f"n = {n} must be from 1 to {MAX_IMAGES}")
        if not 0 < truncation <= 1:
            raise _invalid(f"truncation = {truncation} must be above 0 and at most 1")
        try:
            labels = self._labels_by_name(self._model.image.classes, str(given["class"]), n)
        except ValueError as error:
            raise _invalid(str(error)) from None
        return self._model.sample(range(seed, seed + n), labels, truncation)

    def _changed(self, table: Any, strength: float, wanted: str, seed: int) -> Any:
        import pandas as pd

        if not 0 <= strength <= 1:
            raise _invalid(f"strength = {strength} must be from 0 to 1")
        label = self._label(wanted)
        if not isinstance(table, pd.DataFrame) or "image" not in table:
            raise _invalid("the input is a table with the column image, whose values are the bytes of pictures' files")
        repairs = self._model.network.task.given(3) == 4
        rows, given = [], 0
        for number, row in enumerate(table.to_dict("records")):
            image = _opened(row["image"], f"the image of row {number}", MAX_PIXELS - given)
            given += image.width * image.height
            mask = row.get("mask")
            if repairs != isinstance(mask, bytes | bytearray | str):
                words = "has no mask, which says what to repaint" if repairs else "has a mask, which only repairs take"
                raise _invalid(f"row {number} {words}")
            rows.append((image, _mask(mask, image, number) if repairs else None))
        if given * self._model.network.scale**2 > MAX_MADE:
            raise _invalid(f"the pictures together would be made of more than {MAX_MADE:,} pixels: send fewer")
        return pd.DataFrame({"image": [self._made(image, mask, strength, label, seed) for image, mask in rows]})

    def _label(self, wanted: str) -> int:
        classes, known = self._model.image.classes, self._model.network.classes
        if not known and not wanted:
            return 0
        if not known or not wanted:
            more = f" and {len(classes) - 20:,} more" if len(classes) > 20 else ""
            raise _invalid(
                f"this model makes one kind of picture, and knows no class {wanted}"
                if wanted
                else f"say by the parameter class what the pictures are to become: {', '.join(classes[:20])}{more}"
            )
        try:
            return int(self._labels_by_name(classes, wanted, 1)[0])
        except ValueError as error:
            raise _invalid(str(error)) from None

    @property
    def _carries_over(self) -> bool:
        return isinstance(self._model.network.task, self._carrying)

    def _given(self, image: Any) -> Any:
        """Return a picture with the channels that the network takes.

        Its transparency is left out, but for a model that carries pictures over: that learned it as a channel, or from
        pictures that were laid on white.
        """
        from PIL import Image

        if not self._carries_over:
            return image.convert("L" if image.mode in ("L", "LA") else "RGB")
        channels, seen = self._model.image.channels, image.convert("RGBA")
        if channels not in (1, 3, 4):
            raise _invalid(f"the model's images have {channels} channels, which no picture has")
        if channels == 4:
            return seen
        return Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen).convert(
            "L" if channels == 1 else "RGB"
        )

    def _made(self, image: Any, mask: Any, strength: float, label: int, seed: int) -> bytes:
        import numpy as np
        from PIL import Image, PngImagePlugin

        given = self._given(image)
        pixels = np.asarray(given).reshape(image.height, image.width, -1)
        made = self._in_windows(self._model, pixels, mask, strength=strength, label=label, seed=seed)
        result = Image.fromarray(made[:, :, 0] if made.shape[2] == 1 else made)
        if image.mode in ("LA", "RGBA") and not self._carries_over:
            result.putalpha(image.getchannel("A").resize(result.size, Image.Resampling.LANCZOS))
        term = "algorithmicallyEnhanced" if mask is None else "compositeWithTrainedAlgorithmicMedia"
        term = "trainedAlgorithmicMedia" if self._carries_over else term
        marked, file = PngImagePlugin.PngInfo(), io.BytesIO()
        marked.add_itxt("XML:com.adobe.xmp", _MARK.format(_TERMS + term))
        # A profile of grey levels says nothing of colours.
        profile = image.info.get("icc_profile") if made.shape[2] == pixels.shape[2] else None
        result.save(file, "PNG", pnginfo=marked, icc_profile=profile)
        return file.getvalue()


def _opened(content: Any, called: str, left: int) -> Any:
    """Return a picture, upright and of 8 bits, in one of the modes L, LA, RGB and RGBA.

    `left`: pixels that it has at most.

    Raises:
        MlflowException: it is none, or too large.
    """
    from PIL import Image, ImageOps

    if not isinstance(content, bytes | bytearray | str):
        raise _invalid(f"{called} is no bytes of a picture's file")
    for raw in _readings(content):
        try:
            with Image.open(io.BytesIO(raw), formats=_FORMATS) as image:
                if image.width * image.height > left:
                    raise Image.DecompressionBombError
                if getattr(image, "n_frames", 1) > 1:
                    raise _invalid(f"{called} is animated, or has several pages: send one of them")
                return _eight_bits(ImageOps.exif_transpose(image))
        except mlflow.MlflowException:
            raise
        except Image.DecompressionBombError:
            raise _invalid(f"{called} is too large: pictures of a request have {MAX_PIXELS:,} pixels at most") from None
        # Whatever a decoder raises that met something odd.
        except Exception:
            continue
    raise _invalid(f"{called} is no picture that can be read (of {', '.join(_FORMATS)})")


def _readings(content: bytes | bytearray | str) -> Iterator[bytes]:
    """Yield what the bytes may be: a file, or one in base64, which MLflow does not decode in every kind of request."""
    raw = content.encode(errors="replace") if isinstance(content, str) else bytes(content)
    yield raw
    try:
        yield base64.b64decode(b"".join(raw.split()), validate=True)
    except ValueError:
        return


def _eight_bits(image: Any) -> Any:
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I;16"):
        image.load()
        return Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("levels of no known range")
    transparent = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    grey = image.mode in ("1", "L", "LA", "La")
    made = image.convert(("LA" if transparent else "L") if grey else ("RGBA" if transparent else "RGB"))
    # A profile of other colours than these says nothing of them.
    if image.mode not in ("L", "LA", "RGB", "RGBA"):
        made.info.pop("icc_profile", None)
    return made


def _mask(content: Any, image: Any, number: int) -> Any:
    """Return (H, W) of 0 and 1: 1 where the mask is at least half white, whatever its transparency."""
    import numpy as np

    mask = _opened(content, f"the mask of row {number}", MAX_PIXELS)
    if mask.size != image.size:
        sizes = f"{mask.width}x{mask.height}, and its image {image.width}x{image.height}"
        raise _invalid(f"the mask of row {number} is {sizes}: make them one size")
    return (np.asarray(mask.convert("RGB").convert("L")) >= 128).astype(np.uint8)


def _invalid(message: str) -> Exception:
    return mlflow.MlflowException.invalid_parameter_value(message)  # type: ignore[no-any-return]


mlflow.models.set_model(Generator())
