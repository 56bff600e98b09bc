"""Optimisers by the names that transformers gives them, and how fast each step learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from intract_lsp.errors import TrainingError

OPTIMISERS = ("adamw_torch", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd", "adafactor")
"""What ``TrainerSpec.optimiser`` may be."""

WEIGHT_DECAY = 0.01
LEAST_WARM_UP = 5
"""Steps."""
WARM_UP_SHARE = 0.03
LAST_SHARE = 0.1
"""Of the learning rate, at the end."""


def make_optimiser(name: str, parameters: Iterable[nn.Parameter], learning_rate: float) -> torch.optim.Optimizer:
    """Make an optimiser. Raises ``TrainingError`` for an unknown name, and where the package for it is missing."""
    if name not in OPTIMISERS:
        raise TrainingError(f"There is no optimiser {name}: set training.optim to one of {', '.join(OPTIMISERS)}.")
    wanted = list(parameters)
    if name == "adamw_torch":
        return torch.optim.AdamW(wanted, learning_rate, weight_decay=WEIGHT_DECAY)
    if name == "sgd":
        return torch.optim.SGD(wanted, learning_rate, momentum=0.9, weight_decay=WEIGHT_DECAY)
    if name == "adafactor":
        from transformers.optimization import Adafactor

        adafactor: torch.optim.Optimizer = Adafactor(
            wanted, learning_rate, weight_decay=WEIGHT_DECAY, scale_parameter=False, relative_step=False
        )
        return adafactor
    try:
        from bitsandbytes.optim.adamw import AdamW8bit, PagedAdamW8bit, PagedAdamW32bit
    except ImportError as error:
        raise TrainingError(
            f"The optimiser {name} needs the package bitsandbytes: install it, or set training.optim to adamw_torch."
        ) from error
    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw_8bit": AdamW8bit,
        "paged_adamw_8bit": PagedAdamW8bit,
        "paged_adamw_32bit": PagedAdamW32bit,
    }
    return kinds[name](wanted, lr=learning_rate, weight_decay=WEIGHT_DECAY)


def state_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's state as tensors on the CPU, by the parameter's number and the entry's name."""
    found: dict[str, Tensor] = {}
    for number, parameter in enumerate(_parameters(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found[f"{number}.{name}"] = value.detach().cpu().clone().contiguous()
            elif isinstance(value, int | float):
                found[f"{number}.{name}#{type(value).__name__}"] = torch.tensor(value, dtype=torch.float64)
    return found


def load_state(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Take over what ``state_tensors`` gave. Raises ``TrainingError`` where it is another optimiser's."""
    parameters = _parameters(optimiser)
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        if not number.isdigit() or int(number) >= len(parameters):
            raise TrainingError("The checkpoint is of another optimiser: start the run again.")
        parameter = parameters[int(number)]
        name, _, kind = name.partition("#")
        state = optimiser.state[parameter]
        if kind:
            state[name] = int(value) if kind == "int" else float(value)
        else:
            # AdamW counts its steps on the CPU, wherever the parameter is.
            state[name] = value.clone() if name == "step" else value.to(parameter.device)


def _parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def warm_up(steps: float) -> int:
    """Return how many of ``steps`` steps warm up."""
    return max(LEAST_WARM_UP, round(WARM_UP_SHARE * steps))


def rate_share(step: int, warm: int, done: float) -> float:
    """Return the share of the learning rate for a step (from 0): a rise over ``warm`` steps, then half a cosine.

    ``done`` is how much of the run is over, in 0..1, by whichever limit is nearest: so that the rate comes to its end
    with the run even where the machine becomes slower or faster meanwhile.
    """
    rise = min(1.0, (step + 1) / warm)
    fall = LAST_SHARE + (1.0 - LAST_SHARE) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, max(0.0, done))))
    return rise * fall
