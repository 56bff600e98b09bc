"""What memory and time a run needs on this machine, by the number format that its device computes in. Brings torch."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from intract_lsp.errors import TrainingError
from intract_lsp.inference.threads import physical_cores
from intract_lsp.models.free_memory import available_memory
from intract_lsp.training.layers import linear
from intract_lsp.training.memory import RESERVE, MemoryPlan, plan, products_a_token, read_sizes, served_bytes
from intract_lsp.training.network import compute_dtype
from intract_lsp.training.spec import RunSpec

_ROWS = 512
"""Of the matrices that are timed: a micro-batch's tokens on a CPU."""
_TIMES = 5
_OVERHEAD = 1.2
"""Of a training's time to that of its large matrix products alone, as measured."""


def plan_here(spec: RunSpec, serving: int) -> MemoryPlan:
    """Return what a run needs and what there is now; ``serving`` bytes more can be had. Raises ``TrainingError``."""
    device = torch.device(spec.trainer.device)
    return plan(spec, serving=serving, dtype_bytes=compute_dtype(device).itemsize, free=_free(spec))


def fit_together(spec: RunSpec, versions: int) -> bool:
    """Return whether so many versions of the model, as a server has them, have room in what memory is free now.

    Raises ``TrainingError``.
    """
    free = _free(spec)
    usable = (1 - RESERVE) * (available_memory() if free is None else free)
    return versions * served_bytes(spec, read_sizes(Path(spec.model_directory))) <= usable


def _free(spec: RunSpec) -> int | None:
    """Return the bytes that are free on each of the GPUs that a run takes; ``None`` where it takes none."""
    # Where there is no such device, loading the model says so.
    if torch.device(spec.trainer.device).type != "cuda" or not torch.cuda.is_available():
        return None
    taken = range(min(spec.trainer.processes, torch.cuda.device_count()))
    return min(torch.cuda.mem_get_info(number)[0] for number in taken)


def tokens_a_second(spec: RunSpec) -> float:
    """Return about how fast a run trains here, from how fast this machine multiplies matrices of the model's sizes.

    Takes a fraction of a second on a CPU, on as many threads as the run would. Raises ``TrainingError``.
    """
    device = torch.device(spec.trainer.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError("Nothing can be trained on a GPU here: set model.device to cpu.")
    sizes = read_sizes(Path(spec.model_directory))
    dtype = compute_dtype(device, spec.trainer.method)
    torch.set_num_threads(spec.trainer.threads or physical_cores())
    x = torch.ones(_ROWS, sizes.width, dtype=dtype, device=device)
    weight = torch.ones(sizes.feed_forward, sizes.width, dtype=dtype, device=device)
    seconds = []
    with torch.no_grad():
        for _ in range(_TIMES + 1):
            began = time.perf_counter()
            float(linear(x, weight, None)[0, 0])  # on a GPU the value is waited for
            seconds.append(time.perf_counter() - began)
    products = x.numel() * len(weight)
    # The first time the library looks for the fastest way.
    of_one = products / statistics.median(seconds[1:]) / (_OVERHEAD * products_a_token(spec, sizes))
    return of_one * spec.trainer.processes
