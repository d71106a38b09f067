"""Python, torch, torchvision, CUDA, the extras. The looks at torch are in `trainer.diagnosis`; this is free of torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import re
import struct
import sys
from typing import Any

from launcher.doctor.finding import FAILED, OK, WARNING, Facts, Finding
from trainer.checkpoint.manifest import human

PYTHON = (3, 10)
TORCH = (2, 10)
# What needs it, the extra that brings it, and its packages.
EXTRAS: dict[str, tuple[str, tuple[str, ...]]] = {
    "video": ("videos", ("av",)),
    "onnx": ("export --format onnx", ("onnx", "onnxscript", "onnxruntime")),
    "wandb": ("log.wandb", ("wandb",)),
    "serve": ("serve", ("gradio",)),
    "report": ("report --png", ("matplotlib",)),
}
MUCH_IN_USE = 0.1
OWN_USE = 1 << 30  # what the look itself takes of a GPU, and the driver: some hundred megabytes
WITHOUT_TORCHVISION = "without it there are no image folders, and none of its models, data sets and transforms; all else can be trained"


def look_at_python(options: Facts) -> dict[str, Any]:
    """The interpreter, and what it runs on."""
    return {
        "version": list(sys.version_info[:3]),
        "implementation": platform.python_implementation(),
        "bits": struct.calcsize("P") * 8,
        "system": platform.system(),
        "machine": platform.machine(),
    }


def judge_python(facts: Facts) -> Finding:
    """Whether ostinato is made for it."""
    version = ".".join(map(str, facts["version"]))
    found = f"{version} ({facts['implementation']}, {facts['bits']} bits) on {facts['system']} {facts['machine']}"
    if tuple(facts["version"][:2]) < PYTHON:
        return Finding("python", FAILED, found, f"ostinato needs {PYTHON[0]}.{PYTHON[1]} or newer")
    if facts["bits"] != 64:
        return Finding("python", FAILED, found, "torch needs a Python of 64 bits")
    if facts["system"] != "Linux":
        return Finding("python", WARNING, found, "ostinato is made for Linux, and tested there only")
    return Finding("python", OK, found)


def judge_torch(facts: Facts) -> Finding:
    """Whether it is one that ostinato supports, and works."""
    version = facts["version"]
    built = (
        f"built for CUDA {facts['cuda']}"
        if facts["cuda"]
        else f"built for ROCm {facts['hip']}"
        if facts["hip"]
        else "built for the CPU only"
    )
    found = f"{version}, {built}; CPU instructions: {facts['instructions']}"
    number = re.match(r"(\d+)\.(\d+)", version)
    needed = f"{TORCH[0]}.{TORCH[1]} or newer"
    if number is None:
        return Finding("torch", WARNING, f"{found}; whether ostinato supports it is not known", f"ostinato needs {needed}")
    if (int(number[1]), int(number[2])) < TORCH:
        return Finding("torch", FAILED, found, f"ostinato needs {needed}: pip install 'torch>={TORCH[0]}.{TORCH[1]}'")
    if not facts["right"]:
        return Finding("torch", FAILED, f"{found}; it computes wrongly", "install it anew")
    if not facts["distributed"]:
        return Finding("torch", FAILED, f"{found}, without gloo: workers cannot talk", "install one of pytorch.org's builds")
    return Finding("torch", OK, found)


def judge_cuda(facts: Facts) -> list[Finding]:
    """One line for CUDA, and one for each GPU."""
    devices = facts["devices"]
    some_work = any(device["why"] is None for device in devices)
    return [_judge_libraries(facts), *(_judge_device(number, device, some_work) for number, device in enumerate(devices))]


def _judge_libraries(facts: Facts) -> Finding:
    on_cpu = "training goes on the CPU"
    if facts["available"] and facts["hip"]:
        return Finding(
            "CUDA", WARNING, f"ROCm {facts['hip']} in its place", "ostinato has not been tried with it: hardware.device=cpu is safe"
        )
    if facts["available"]:
        cudnn, nccl = facts["cudnn"] or "none", facts["nccl"] or "none"
        found = f"{facts['built']}, cuDNN {cudnn}, NCCL {nccl}"
        advice = "" if facts["nccl"] else "several GPUs need NCCL: install a build of torch that has it"
        return Finding("CUDA", WARNING if advice and len(facts["devices"]) > 1 else OK, found, advice if len(facts["devices"]) > 1 else "")
    gpus = facts["shown"]
    if not gpus:
        return Finding("CUDA", OK, f"no GPU: {on_cpu}")
    there = f"a GPU is in this machine, and torch cannot use it: {on_cpu}"
    if not facts["built"]:
        return Finding(
            "CUDA", WARNING, f"{there}; this torch is built without CUDA", "install a torch that is built for CUDA (pytorch.org)"
        )
    chosen = "" if facts["hidden_by"] is None else f"CUDA_VISIBLE_DEVICES={facts['hidden_by']}"
    if chosen and _hides_all(facts["hidden_by"], gpus):
        also = f"; {facts['why']}" if facts["why"] else ""
        return Finding("CUDA", WARNING, f"{there}; {chosen}{also}", "unset it, if that is not what you want")
    silent = f"torch does not say why ({chosen})" if chosen else "torch does not say why"
    return Finding("CUDA", WARNING, f"{there}; {facts['why'] or silent}", "nvidia-smi shows whether the driver works")


def _hides_all(value: str, gpus: int) -> bool:
    """Whether a CUDA_VISIBLE_DEVICES leaves none of so many GPUs: what it names first is none of them, and CUDA reads no further."""
    first = value.split(",")[0].strip()
    if first.startswith(("GPU-", "MIG-")):  # whether there is one of that name is not known
        return False
    return not first.isdecimal() or int(first) >= gpus


def _judge_device(number: int, facts: Facts, some_work: bool) -> Finding:
    name = f"GPU {number}"
    if facts["why"] is not None:
        found = f"{facts['name'] or 'without a name'}: {facts['why']}"
        advice = f"leave it out (CUDA_VISIBLE_DEVICES), or install a torch that is built for it; nvidia-smi -i {number} says more"
        if some_work:
            return Finding(name, WARNING, f"{found}; a worker that gets it fails", advice)
        return Finding(name, FAILED, found, advice)
    free, total = facts["free"], facts["total"]
    found = f"{facts['name']}, {human(free)} of {human(total)} free"
    if total - free > max(MUCH_IN_USE * total, OWN_USE):
        return Finding(name, WARNING, found, "others use it: nvidia-smi shows who")
    return Finding(name, OK, found)


def judge_torchvision(facts: Facts) -> Finding:
    """Whether images and torchvision's models can be used, and what is missing of it."""
    if facts["why"] is not None:
        found, advice = _split(facts["why"])
        return Finding("torchvision", WARNING, f"{found}; {WITHOUT_TORCHVISION}", advice)
    if facts["helped"]:
        found = (
            f"{facts['version']}, whose compiled operators cannot be loaded beside this torch (operator torchvision::nms does not exist)"
        )
        found += "; ostinato mends its import, so that models, data sets and transforms work"
        return Finding("torchvision", WARNING, found, "only if you need nms and the like: install the build made for this torch")
    if facts["operators"] is not None:
        return Finding(
            "torchvision",
            WARNING,
            f"{facts['version']}; its compiled operators do not work ({facts['operators']})",
            "only if you need them: install the build made for this torch",
        )
    return Finding("torchvision", OK, f"{facts['version']}, compiled operators included")


def _split(text: str) -> tuple[str, str]:
    """Our own errors are what is wrong, a semicolon, and what to do."""
    found, _, advice = text.rpartition("; ")
    return (found, advice) if found else (text, "")


def look_at_extras(options: Facts) -> dict[str, Any]:
    """Which optional packages are installed. They are not imported: some take seconds."""
    return {"versions": {package: _version(package) for _, packages in EXTRAS.values() for package in packages}}


def _version(package: str) -> str | None:
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def judge_extras(facts: Facts) -> Finding:
    """What is there, and how to get the rest. None of it is needed for training."""
    versions = facts["versions"]
    there = [f"{package} {version}" for package, version in versions.items() if version]
    missing = {extra: use for extra, (use, packages) in EXTRAS.items() if not all(versions[package] for package in packages)}
    found = f"installed: {', '.join(there)}" if there else "none is installed"
    if not missing:
        return Finding("extras", OK, found)
    wanted = ", ".join(f"{use} (ostinato[{extra}])" for extra, use in missing.items())
    return Finding("extras", OK, f"{found}; not there, and needed for these only: {wanted}")
