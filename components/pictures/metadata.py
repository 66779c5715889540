"""A picture's file, and what it says of it wherever it is copied to: that it was generated, by what, and from what.

No date, so that a marked picture is still a pure function of its facts.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from ..gan.tasks.options import AnyTask, Generate, Inpaint, Restyle, Translate

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

    from .finishing import Draft

# IPTC's terms: for what a model made that learned from sampled content, for a photo that was enlarged, restored or
# coloured, and for one of which such a model painted a part.
_TERMS = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, ENHANCED, COMPOSITE = (
    f"{_TERMS}{term}"
    for term in ("trainedAlgorithmicMedia", "algorithmicallyEnhanced", "compositeWithTrainedAlgorithmicMedia")
)
# XML cannot write these at all, and no encoding takes lone surrogates.
_UNWRITABLE = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PACKET = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    xmlns:ganflow="urn:ganflow:">
   <Iptc4xmpExt:DigitalSourceType>{source}</Iptc4xmpExt:DigitalSourceType>
   <xmp:CreatorTool>ganflow</xmp:CreatorTool>
{facts}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def mark_of(task: AnyTask) -> str:
    """Return IPTC's term for what a model of the task makes."""
    match task:
        case Generate() | Translate() | Restyle():
            return GENERATED
        case Inpaint():
            return COMPOSITE
    return ENHANCED


def mark_in(content: bytes) -> str | None:
    """Return the term of IPTC's that a marked file has, if it has one."""
    return next((term for term in (GENERATED, ENHANCED, COMPOSITE) if term.encode() in content), None)


def xmp(facts: Mapping[str, str], source: str = GENERATED) -> bytes:
    """XMP (ISO 16684-1) with IPTC's digital source type (Photo Metadata Standard) and the facts as `ganflow:<name>`."""
    lines = (f"   <ganflow:{name}>{escape(_written(value))}</ganflow:{name}>" for name, value in facts.items())
    return _PACKET.format(source=source, facts="\n".join(lines)).encode()


def png_text(
    facts: Mapping[str, str], source: str = GENERATED, others: Mapping[str, str] = MappingProxyType({})
) -> PngInfo:
    """Write the facts as text chunks `ganflow:<name>` of a PNG, and as XMP in the chunk where readers look for it.

    `others` are further chunks, which a photo had.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in others.items():
        if name != "Software":
            info.add_itxt(name, value)
    info.add_text("Software", "ganflow")
    for name, value in facts.items():
        info.add_text(f"ganflow:{name}", _written(value))
    info.add_itxt("XML:com.adobe.xmp", xmp(facts, source).decode())
    return info


def names_of(seed: int, label: int, classes: Sequence[str], channels: int) -> tuple[str, ...]:
    """Return the files of a picture: `<class>-<seed>.png`, and `.npy` where no picture shows all the channels."""
    # What any file system takes; seeds keep apart classes whose names become equal.
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", classes[label])[:60].strip("-.") or f"class{label}"
    kinds = ("png",) if channels in (1, 3, 4) else ("png", "npy")
    return tuple(f"{stem}-{seed}.{kind}" for kind in kinds)


def files_of(
    draft: Draft, classes: Sequence[str], facts: Mapping[str, str], source: str = GENERATED
) -> dict[str, bytes]:
    """Return what is to stand in the files of a finished picture, by name.

    It is marked with `facts`, its own, and `source`, a term of IPTC's.
    """
    import numpy as np

    from ..gan.dataset import to_image

    own = {"class": classes[draft.label], "seed": str(draft.seed), "steps": ", ".join(draft.steps)}
    picture, array = io.BytesIO(), io.BytesIO()
    to_image(draft.pixels).save(picture, "PNG", pnginfo=png_text({**facts, **own}, source))
    np.save(array, draft.pixels)
    names = names_of(draft.seed, draft.label, classes, draft.pixels.shape[2])
    return dict(zip(names, (picture.getvalue(), array.getvalue()), strict=False))


def _written(value: str) -> str:
    return _UNWRITABLE.sub("\ufffd", value)
