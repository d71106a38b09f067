"""A run's model behind a page: the web server around `trainer.serve_page`, and what keeps gradio to itself.

Nothing leaves this machine: no telemetry, no look for newer versions, no link through somebody's server, no fonts or scripts from
elsewhere. Nothing is kept: uploads lie in a folder of this process's own, each for less than a minute.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from trainer.predict import Predictor

# gradio reads these when it is imported. What the user's shell says to other gradio pages is not meant for this one.
ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "MPLBACKEND": "Agg",
}
MOST_BYTES = 50_000_000
CLOSING_S = 2.0
STARTING_S = 60.0


class Site:
    """The page of one run.

    Args:
        predictor: what answers.
        uploads: a folder for what is dropped on the page.

    Raises:
        ImportError: gradio is missing, or broken.
    """

    def __init__(self, predictor: Predictor, uploads: str) -> None:
        _keep_to_itself(uploads)
        import fastapi
        import gradio
        import uvicorn

        from trainer import serve_page

        app = gradio.mount_gradio_app(
            fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
            serve_page.page(predictor),
            path="/",
            footer_links=[],
            run_history=False,
            show_error=True,
            max_file_size=MOST_BYTES,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=serve_page.theme(),
            css=serve_page.CSS,
            js=serve_page.SCRIPT,
        )
        # A browser on a busy machine may need a while between one part of the page and the next, over the same connection.
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=75, timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether it answers."""
        return self._thread is not None and self._thread.is_alive()

    @contextmanager
    def open(self, entrance: socket.socket) -> Iterator[None]:
        """Answer on a socket that listens. The server has a thread, because it would take the signals for itself."""
        self._thread = threading.Thread(target=self._server.run, args=([entrance],), daemon=True)
        self._thread.start()
        limit = time.monotonic() + STARTING_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < limit:
            time.sleep(0.01)
        try:
            yield
        finally:
            self._server.should_exit = True  # an open page is a connection without an end: it is not waited for
            self._thread.join(CLOSING_S)


def _keep_to_itself(uploads: str) -> None:
    for name in [name for name in os.environ if name.startswith(("GRADIO_", "SPACE_", "SPACES_"))] + ["SYSTEM"]:
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT, GRADIO_TEMP_DIR=uploads)
    # What other packages say of themselves is not for whoever started the page.
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
