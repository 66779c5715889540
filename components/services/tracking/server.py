"""MLflow's server with the pages' view for training: `python -m components.services.tracking.server` and its options.

The pages take the view from the address, else from what the browser keeps for them, else that for language models; the
links inside them carry none. So the document that they all start from puts the view for training into the browser's
store, unless the reader has chosen there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# What MLflow's pages keep in the browser, and the values as which a reader finds them who has chosen nothing.
_FIRST = {
    "mlflow.workflowType_v1": '"machine_learning"',
    # An assistant by language models would open by itself, over a quarter of the first page.
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}
# Above a picture over time stand all parameters, which leave no room for it: one line of them is enough, and a tooltip
# has all.
_HEAD = f"""<script>
for (const [name, value] of Object.entries({json.dumps(_FIRST)}))
  if (localStorage.getItem(name) === null) localStorage.setItem(name, value);
</script>
<style>
div:has(+ div .rc-image) > div:nth-child(2) {{ max-height: 1.3em; overflow-wrap: anywhere }}
div:has(> .rc-image) {{ aspect-ratio: auto }}
</style>"""


def create_app() -> Any:
    """Return MLflow's application behind its password, as uvicorn serves it."""
    from mlflow.server import app
    from mlflow.server.auth import create_app

    document = Path(app.static_folder, "index.html").read_text(encoding="utf-8")
    prepared = document.replace("<head>", f"<head>{_HEAD}", 1)
    app.view_functions["serve"] = lambda: app.response_class(prepared, mimetype="text/html")
    return create_app()


def main() -> None:
    """Start `mlflow server` with this application in place of its own."""
    from mlflow import server
    from mlflow.cli import cli

    # What MLflow asks for the application of `--app-name`, in the process that starts uvicorn.
    server._find_app = lambda name: "components.services.tracking.server:create_app"
    cli(["server", *sys.argv[1:]])


if __name__ == "__main__":
    main()
