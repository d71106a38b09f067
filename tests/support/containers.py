"""Real containers without a Docker service: podman with runc and a storage of its own, and a base image made from Debian's packages.

`Engine.docker` is a command that stands for `docker`, so that what the pages show can be typed as it is. What this machine says about
where packages come from (pip's own settings) is given to a build as mounts; nothing of it is in the Dockerfile.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.support.jobs import ROOT

TOOLS = ("podman", "runc", "mmdebstrap", "netavark", "aardvark-dns", "iptables")
ELSEWHERE = {"netavark": "/usr/lib/podman/netavark", "aardvark-dns": "/usr/lib/podman/aardvark-dns"}
BASE = "localhost/ostinato-base:test"
IMAGE = "localhost/ostinato:cpu"
BUILD_S = 1200.0
ROOM = 6 * 2**30
PIP_SETTINGS = ("cert", "extra-index-url", "find-links", "index-url", "proxy", "trusted-host")
# As strict as a cluster's: nothing to write to but /tmp and what is mounted, no capabilities, a bound on processes and memory.
HARD = (
    *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--pids-limit", "512", "--memory", "3g", "--no-healthcheck"),
)


def missing() -> list[str]:
    """What this machine lacks for real containers."""
    lacking = [tool for tool in TOOLS if not (shutil.which(tool) or Path(ELSEWHERE.get(tool, "/nowhere")).exists())]
    if importlib.util.find_spec("podman_compose") is None:
        lacking.append("podman-compose (pip install -e '.[dev]')")
    return lacking + ([] if os.geteuid() == 0 else ["root's rights"])


def _storage() -> Path:
    """A folder for images: in memory where there is room, because a build calls fsync for each of many files."""
    shm, free = Path("/dev/shm"), 0
    if shm.is_dir():
        available = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
        free = min(shutil.disk_usage(shm).free, int(available[1]) * 1024 // 2 if available else 0)
    return Path(tempfile.mkdtemp(prefix="ostinato-containers-", dir=shm if free > ROOM else None))


class Engine:
    """Builds images and runs containers. `close` removes all of it, unless OSTINATO_CONTAINERS names the folder to keep them in."""

    def __init__(self) -> None:
        kept = os.environ.get("OSTINATO_CONTAINERS")
        self.keep = kept is not None
        self.folder = Path(kept) if kept else _storage()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.env = {**os.environ, **self._settings()}
        self.bin = self.folder / "bin"
        self.docker = self._stand_in()

    def _settings(self) -> dict[str, str]:
        """Podman's two files: its storage is ours, and it needs neither systemd nor rights that a container of a CI lacks."""
        files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 8192)
        storage, containers = self.folder / "storage.conf", self.folder / "containers.conf"
        storage.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{self.folder}/graph"\nrunroot = "{self.folder}/run"\n')
        containers.write_text(
            f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc=8192:8192"]\n'
            '[engine]\nevents_logger = "file"\ncgroup_manager = "cgroupfs"\nruntime = "runc"\n'
            f'[network]\nnetwork_backend = "netavark"\nnetwork_config_dir = "{self.folder}/networks"\n'
        )
        return {"CONTAINERS_STORAGE_CONF": str(storage), "CONTAINERS_CONF": str(containers)}

    def _stand_in(self) -> Path:
        """The command that is called docker: podman, with what a build needs here."""
        base = ["--pull=never", "--isolation=oci", "--network=host", "--format=docker", "--layers", f"--build-arg=BASE_IMAGE={BASE}"]
        build = shlex.join([*base, *self._pip_settings()])
        exports = "".join(f"export {name}={shlex.quote(self.env[name])}\n" for name in ("CONTAINERS_STORAGE_CONF", "CONTAINERS_CONF"))
        self.bin.mkdir(exist_ok=True)
        docker = self.bin / "docker"
        compose = shlex.join([sys.executable, "-m", "podman_compose"])
        docker.write_text(
            f'#!/bin/sh\n{exports}case "$1" in\n'
            f'build) shift; exec podman build {build} "$@" ;;\n'
            f'compose) shift; exec {compose} "$@" ;;\n'
            '*) exec podman "$@" ;;\nesac\n'
        )
        docker.chmod(0o755)
        return docker

    def _pip_settings(self) -> list[str]:
        """Build arguments and mounts for where this machine's pip finds packages."""
        told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
        rows = re.findall(rf"^(\S+?)\.({'|'.join(PIP_SETTINGS)})='(.*)'$", told, flags=re.MULTILINE)
        settings = {key: value for _, key, value in sorted(rows, key=lambda row: row[0] == ":env:")}  # variables win, as with pip
        file = self.folder / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
        words = [word for value in settings.values() for word in value.split()]
        # What an index's pages link to lies beside them.
        paths = {str(Path(word[7:]).parent) if word.startswith("file://") else word for word in words}
        mounts = [f"--volume={path}:{path}:ro" for path in sorted(paths) if path.startswith("/") and Path(path).exists()]
        # A machine that says where its packages are has torch there too, and may reach nothing else.
        index = ["--build-arg=TORCH_INDEX="] if {"find-links", "index-url"} & settings.keys() else []
        return [f"--volume={file}:/etc/pip.conf:ro", *mounts, *index]

    def run(self, *words: str, check: bool = True, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """``docker …``, to its end."""
        done = subprocess.run([self.docker, *words], env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
        assert not check or done.returncode == 0, (
            f"docker {shlex.join(words)}: {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        )
        return done

    def build(self) -> None:
        """The base and, from the Dockerfile, the cpu image; what is there already and unchanged is used again."""
        if self.run("image", "exists", BASE, check=False).returncode != 0:
            self._base()
        self.run("build", "-f", "docker/Dockerfile", "--target", "cpu", "-t", "ostinato:cpu", ".", timeout=BUILD_S)

    def _base(self) -> None:
        """What python:3.11-slim is, from Debian's packages: an image registry is not always within reach."""
        release = dict(re.findall(r'^(\w+)="?(.*?)"?$', Path("/etc/os-release").read_text(), flags=re.MULTILINE))
        suite = release["VERSION_CODENAME"] if release.get("ID") == "debian" else "bookworm"
        # Without the hook the image carries this machine's name server and name.
        hook = 'ln -sf python3 "$1/usr/bin/python"; rm -f "$1/etc/resolv.conf" "$1/etc/hostname"'
        packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
        tar = self.folder / "base.tar"
        words = ["mmdebstrap", "-q", "--format=tar", "--variant=minbase", packages, f"--customize-hook={hook}", suite, str(tar)]
        subprocess.run(words, check=True, timeout=BUILD_S, env={**os.environ, "TMPDIR": str(self.folder)}, stdin=subprocess.DEVNULL)
        self.run("import", "-q", "--change", 'CMD ["python3"]', "--change", "ENV LANG=C.UTF-8", str(tar), BASE)
        tar.unlink()

    def start(self, name: str, runs: Path, *words: str, network: str = "none", options: Sequence[str] = HARD) -> str:
        """Start ``ostinato …`` in a container of this name and host name, with a folder for its runs; the name."""
        mount = f"{runs}:/work/runs"
        self.run("run", "-d", "--name", name, "--hostname", name, "--network", network, "-v", mount, *options, "ostinato:cpu", *words)
        return name

    def end(self, name: str, limit_s: float = 200.0) -> int:
        """Wait for a container's end and remove it; its exit code. What it said is printed, for a test that fails."""
        try:
            code = int(self.run("wait", name, timeout=limit_s).stdout)
        finally:
            print(f"--- {name}\n{self.logs(name)}")
            self.run("rm", "-f", "-t", "0", name, check=False)
        return code

    def python(self, name: str, code: str) -> str:
        """Run a little Python inside of a container; what it prints."""
        return self.run("exec", name, "python3", "-c", code).stdout

    def inspect(self, name: str, kind: str = "container") -> dict[str, Any]:
        """What the engine knows about a container or an image."""
        return dict(json.loads(self.run(kind, "inspect", name).stdout)[0])

    def wait_until(self, true: Callable[[], bool], name: str, limit_s: float = 120.0) -> None:
        """Wait until something is so while a container runs; if it ends before, its log says why."""
        end, look = time.monotonic() + limit_s, 0.0
        while not true():
            if time.monotonic() >= look:  # now and then: it takes a process and its time
                running = self.inspect(name)["State"]["Running"]
                assert running or true(), self.logs(name)
                look = time.monotonic() + 1.0
            assert time.monotonic() < end, f"{name}: not within {limit_s:g} s\n{self.logs(name)}"
            time.sleep(0.02)

    def logs(self, name: str) -> str:
        """What a container has said so far."""
        done = self.run("logs", name, check=False)
        return done.stdout + done.stderr

    def close(self) -> None:
        """End every container; remove images, networks and files."""
        for words in (["rm", "-fa", "-t", "0"], ["network", "prune", "-f"]):
            self.run(*words, check=False)
        if self.keep:
            return
        self.run("rmi", "-fa", check=False)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(f"{self.folder}/")), reverse=True):
            subprocess.run(["umount", mount], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
