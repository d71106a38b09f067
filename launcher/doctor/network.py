"""What workers and machines need to find each other: loopback, this machine's name, the port at which machines meet (free of torch)."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Any

from launcher.doctor.finding import FAILED, OK, WARNING, Facts, Finding

PORT = 29400
"""The one that the documentation and torchrun use; ostinato itself has none."""
WAIT_S = 3.0
OTHER = "other machines are told where to meet by --rdzv-endpoint: give this machine's address there"


def look_at_loopback(options: Facts) -> dict[str, Any]:
    """Send a byte from this process to itself, as workers of one machine do."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(WAIT_S)
            with socket.create_connection(server.getsockname(), timeout=WAIT_S) as one:
                other, _ = server.accept()
                with other:
                    one.sendall(b"x")
                    other.settimeout(WAIT_S)
                    return {"why": None if other.recv(1) == b"x" else "what was sent did not arrive"}
    except OSError as fault:
        return {"why": fault.strerror or str(fault)}


def judge_loopback(facts: Facts) -> Finding:
    """Whether several workers on this machine can talk."""
    if facts["why"] is None:
        return Finding("loopback", OK, "127.0.0.1 can be reached")
    return Finding("loopback", FAILED, f"127.0.0.1 cannot be reached ({facts['why']}): workers cannot talk", "as root: ip link set lo up")


def look_at_port(options: Facts) -> dict[str, Any]:
    """Listen at the port for a moment, as node 0 of a job would."""
    facts: dict[str, Any] = {"port": options["port"] or PORT, "asked": options["port"] is not None, "errno": None, "why": None}
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("0.0.0.0", facts["port"]))
            listener.listen(1)
        except OSError as fault:
            facts |= {"errno": fault.errno, "why": fault.strerror or os.strerror(fault.errno or 0)}
    return facts


def judge_port(facts: Facts) -> Finding:
    """Whether node 0 of a job of several machines could listen there. One machine needs no port."""
    port = f"{facts['port']}"
    if facts["why"] is None:
        return Finding("port", OK, f"{port} is free; whether other machines reach it is not known")
    advice = "for several machines choose another one: --rdzv-endpoint HOST:PORT"
    state = FAILED if facts["asked"] else WARNING
    if facts["errno"] == errno.EADDRINUSE:
        return Finding("port", state, f"{port} is taken by another program", advice)
    return Finding("port", state, f"{port} cannot be listened at ({facts['why']})", advice)


def look_at_host_name(options: Facts) -> dict[str, Any]:
    """What this machine is called, and the addresses that the name has here."""
    name = socket.gethostname()
    try:
        entries = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except OSError as fault:
        return {"name": name, "addresses": [], "why": fault.strerror or str(fault)}
    return {"name": name, "addresses": list(dict.fromkeys(str(entry[4][0]) for entry in entries)), "why": None}


def judge_host_name(facts: Facts) -> Finding:
    """Whether the name leads to this machine from elsewhere. One machine needs no name: its workers look none up."""
    name, addresses = facts["name"], facts["addresses"]
    if not addresses:
        advice = f"for several machines put it into /etc/hosts or the name service; {OTHER}"
        return Finding("host name", WARNING, f"{name} has no address here ({facts['why']})", advice)
    shown = ", ".join(addresses)
    # Link-local IPv6 addresses carry a zone behind a percent sign.
    if all(ipaddress.ip_address(address.partition("%")[0]).is_loopback for address in addresses):
        return Finding(
            "host name", WARNING, f"{name} is {shown} here, which is every machine's name for itself", f"one machine does not mind; {OTHER}"
        )
    return Finding("host name", OK, f"{name} is {shown} here")
