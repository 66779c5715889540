from pathlib import Path
from .artifacts import *
from .keys import key_of
from .params import Postprocess
def postprocess(options: Postprocess, evaluation: Evaluation, model: Model, dataset: Dataset, out: Path) -> Gallery:
    key = key_of("postprocess", options, evaluation.content, model.content, dataset.content)
    if found := Gallery.find(out, key):
        return found
    with staging(out) as folder:
        (folder/"contact_sheet.png").write_bytes(b"x")
        (folder/"report.html").write_text("x")
        Gallery.describe(folder, key, pictures=(), model=model.content)
    return Gallery.load(out)
