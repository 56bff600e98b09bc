"""What a run needs on this machine, by the number format that its device computes in. Brings torch."""

from __future__ import annotations

import torch

from intract_lsp.training.memory import MemoryPlan, plan
from intract_lsp.training.network import compute_dtype
from intract_lsp.training.spec import RunSpec


def plan_here(spec: RunSpec, serving: int) -> MemoryPlan:
    """Return what a run needs and what there is now; ``serving`` bytes more can be had. Raises ``TrainingError``."""
    device = torch.device(spec.trainer.device)
    free = None
    # Where there is no such device, loading the model says so.
    if device.type == "cuda" and torch.cuda.is_available():
        taken = range(min(spec.trainer.processes, torch.cuda.device_count()))
        free = min(torch.cuda.mem_get_info(number)[0] for number in taken)
    return plan(spec, serving=serving, dtype_bytes=compute_dtype(device).itemsize, free=free)
