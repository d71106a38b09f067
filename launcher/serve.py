"""``ostinato serve``: a page in the browser on which a run's model answers a picture, a text or numbers."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from launcher.evaluate import config_of, go_where_it_was_started
from trainer.errors import DONE, ConfigError, TrainingError
from trainer.rundir import RunDir

NEEDED = ("gradio", "fastapi", "uvicorn")
MISSING = "serve: needs gradio, which is not installed; pip install 'ostinato[serve]'"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOK_EVERY_S = 0.5
ALL_ADDRESSES = ("0.0.0.0", "::")


def serve(run: str, *, host: str = "127.0.0.1", port: int = 7860, checkpoint: str = "best", show: bool = False) -> int:
    """Serve the page until a Ctrl-C, a SIGTERM, or the terminal's end.

    Args:
        run: the run folder; it is only read.
        host: where to listen.
        port: where to listen; 0: any that is free.
        checkpoint: best, last, or a checkpoint's name.
        show: open the page in a browser.

    Returns:
        0.

    Raises:
        ConfigError: gradio is not installed, or that address cannot be listened on.
        OstinatoError: the run cannot be used.
    """
    folder = RunDir(Path(run).absolute())
    config_of(folder, run)
    if any(importlib.util.find_spec(name) is None for name in NEEDED):
        raise ConfigError(f"command line: {MISSING}")
    with Asked() as asked, door(host, port) as entrance:
        _warn_of_others(entrance, host)
        go_where_it_was_started(folder)
        _serve(folder, run, checkpoint, entrance, asked, show)
    return DONE


def _serve(folder: RunDir, said: str, checkpoint: str, entrance: socket.socket, asked: Asked, show: bool) -> None:
    from trainer.predict import Predictor

    predictor = Predictor(folder.path, checkpoint)
    for complaint in predictor.finished.complaints:
        print(f"ostinato: {complaint}; {predictor.checkpoint} answers instead", file=sys.stderr)
    # What is dropped on the page lies here for a moment; nobody else may read it, and nothing of it stays.
    with tempfile.TemporaryDirectory(prefix="ostinato-serve-") as uploads:
        try:
            from trainer.serve import Site

            site = Site(predictor, uploads)
        except ImportError as fault:
            raise ConfigError(f"command line: {MISSING} ({str(fault).splitlines()[0]})") from fault
        asked.loading = False
        with site.open(entrance):
            print(f"{said} ({predictor.checkpoint}): {address(entrance)}  Ctrl-C ends it", flush=True)
            if show:
                import webbrowser

                webbrowser.open(address(entrance))
            while not asked.happened.wait(LOOK_EVERY_S):
                if not site.alive:
                    raise TrainingError("serve: the page's server has ended by itself; start it again")


class Asked:
    """Notes, as a context, that the page is to end; what is ignored (``nohup``) stays ignored.

    While the model is loaded a request ends that at once; later it is only noted, so that all is closed in order.
    """

    class _Now(BaseException):
        """Ends the loading."""

    def __init__(self) -> None:
        self.happened = threading.Event()
        self.loading = True

    def __enter__(self) -> Asked:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> bool:
        return kind is Asked._Now

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.happened.set()
        if self.loading:
            raise Asked._Now


@contextmanager
def door(host: str, port: int) -> Iterator[socket.socket]:
    """Listen, before anything that takes time: who opens the page now waits for it.

    Raises:
        ConfigError: not there.
    """
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as fault:
        raise ConfigError(f"command line: --host={host}: no such address; leave it out, or name one of this machine's") from fault
    with socket.socket(family, kind, protocol) as entrance:
        entrance.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            entrance.bind(where)
            entrance.listen(128)
        except PermissionError as fault:
            raise ConfigError(f"command line: --port={port}: not for you ({fault.strerror}); name one above 1023") from fault
        except OSError as fault:
            if fault.errno == 98:
                raise ConfigError(f"command line: --port={port}: taken; name another, or 0 for any that is free") from fault
            raise ConfigError(f"command line: --host={host}: cannot listen there ({os.strerror(fault.errno or 0)})") from fault
        yield entrance


def address(entrance: socket.socket) -> str:
    """The page's address, as this machine's browser finds it."""
    host, port = entrance.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _warn_of_others(entrance: socket.socket, host: str) -> None:
    place, port = entrance.getsockname()[:2]
    if not ipaddress.ip_address(place.partition("%")[0]).is_loopback:
        whoever = "whoever reaches this machine" if place in ALL_ADDRESSES else f"whoever reaches {place}"
        print(
            f"ostinato: --host={host}: {whoever} can use the page, and no password is asked for; "
            f"from one machine, 'ssh -L {port}:127.0.0.1:{port}' does without --host",
            file=sys.stderr,
            flush=True,
        )
