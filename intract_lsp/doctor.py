"""What ``intract-lsp doctor`` finds: the machine, what was chosen for it and why, and what is wrong."""

from __future__ import annotations

import platform
import shutil
import sys
import time
from dataclasses import dataclass

import psutil

from intract_lsp import __version__
from intract_lsp.errors import ModelError
from intract_lsp.inference.loading import count_parameters
from intract_lsp.inference.threads import INTERVAL, ThreadCount, on_battery, physical_cores
from intract_lsp.models import fetch, hardware
from intract_lsp.models.free_memory import available_memory
from intract_lsp.models.progress import mebibytes
from intract_lsp.paths import Paths
from intract_lsp.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    name: str
    value: str
    wrong: bool = False


def examine(settings: Settings, problems: list[str], paths: Paths) -> list[Finding]:
    """Look at everything a completion depends on, without loading a model and without the network."""
    machine = hardware.detect()
    findings = [
        Finding("intract-lsp", f"{__version__} on Python {platform.python_version()} ({sys.executable})"),
        Finding("system", f"{platform.system()} {platform.release()} {platform.machine()}"),
        Finding("memory", _memory()),
        *_torch(settings, paths),
        Finding("default model", hardware.default_reason(machine)),
        _model(settings, paths),
        Finding("models in", f"{paths.models} ({mebibytes(_free(paths))} free)"),
        Finding("settings file", f"{paths.user_settings}{'' if paths.user_settings.is_file() else ' (none yet)'}"),
        Finding("log in", str(paths.logs)),
    ]
    return findings + [Finding("setting", problem, wrong=True) for problem in problems]


def _memory() -> str:
    return f"{mebibytes(psutil.virtual_memory().total)}, {mebibytes(available_memory())} available"


def _torch(settings: Settings, paths: Paths) -> list[Finding]:
    try:
        import torch

        from intract_lsp.inference.device import choose, flash_attention, look
    except ImportError as error:
        return [Finding("torch", f"cannot be imported ({error}); install intract-lsp again.", wrong=True)]
    findings = [Finding("torch", torch.__version__)]
    try:
        seen = look()
        placement = choose(seen, settings.model.device, settings.model.precision, _parameters(settings, paths))
    except ModelError as error:
        return [*findings, Finding("device", str(error), wrong=True)]
    chosen = f"{placement.device.type}, {placement.precision} ({placement.reason})"
    if placement.device.type == "cpu":
        chosen += f", {torch.backends.cpu.get_cpu_capability()}"
        findings.append(Finding("threads", _threads(settings.model.threads)))
    findings.append(Finding("device", chosen))
    _, refused = flash_attention(seen, placement, settings.model.use_flash_attention)
    return [*findings, Finding("flash attention", refused, wrong=True)] if refused else findings


def _parameters(settings: Settings, paths: Paths) -> int:
    """Return the number of the model's weights; 0 where it is not on this machine."""
    try:
        model = fetch.cached(settings.model.name, paths)
        return 0 if model is None else count_parameters(model.directory)
    except ModelError:
        return 0  # said by the finding about the model


def _threads(fixed: int) -> str:
    """Say how many threads a model on the CPU gets, and why, after a look at what else runs."""
    if fixed:
        return f"{fixed} (as set)"
    count = ThreadCount(physical_cores())
    time.sleep(INTERVAL)
    cores = physical_cores()
    now = count.look()
    why = f"other programs keep {count.others:.1f} busy now" if now < cores else "the machine is quiet now"
    battery = "; on battery: nothing is computed ahead" if on_battery() else ""
    return f"{now} of {cores} core{'s' if cores > 1 else ''} ({why}; follows the load){battery}"


def _model(settings: Settings, paths: Paths) -> Finding:
    name = settings.model.name
    try:
        model = fetch.cached(name, paths)
    except ModelError as error:
        return Finding("model", str(error), wrong=True)
    if model is None:
        return Finding("model", f"{name} is not on this machine yet; fetch it with `intract-lsp models pull`.", True)
    return Finding("model", f"{model.name}, {mebibytes(model.size_bytes)}, from {model.source.partition(',')[0]}")


def _free(paths: Paths) -> int:
    directory = paths.models
    while not directory.exists():
        directory = directory.parent
    return shutil.disk_usage(directory).free
