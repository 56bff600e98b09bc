from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from intract_lsp.errors import TrainingError
from intract_lsp.training.checkpoint import Checkpoints, Progress
from intract_lsp.training.durable import replace_directory
from intract_lsp.training.losses import Losses
from intract_lsp.training.optimisers import OPTIMISERS, load_state, make_optimiser, state_tensors

WEIGHTS = {"w": torch.arange(6.0).reshape(2, 3)}


def contents(folder: Path) -> str:
    return (folder / "file").read_text()


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run")
    assert checkpoints.load("f") is None
    progress = Progress("f", step=7, base=Losses((1.5, 0.0), (3, 0)), seconds=3.25, gradient_checkpointing=True)
    checkpoints.save(Progress("f", step=6), WEIGHTS, {})
    checkpoints.save(progress, WEIGHTS, {"0.step": torch.tensor(7.0)})
    found = checkpoints.load("f")
    assert found is not None
    assert found[0] == progress
    torch.testing.assert_close(found[1], WEIGHTS)
    torch.testing.assert_close(found[2], {"0.step": torch.tensor(7.0)})
    assert checkpoints.load("of other samples") is None
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["latest"], "nothing else is left"
    assert {path.suffix for path in (tmp_path / "run" / "latest").iterdir()} == {".json", ".safetensors"}
    checkpoints.remove()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["state.json", "weights.safetensors", "optimiser.safetensors"])
def test_a_torn_checkpoint_is_none(name: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress("f"), WEIGHTS, {})
    (tmp_path / "latest" / name).write_bytes(b"{")
    assert checkpoints.load("f") is None


def test_the_best_weights(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(TrainingError, match="start the run again"):
        checkpoints.load_best()
    checkpoints.save_best({"w": torch.zeros(1)})
    checkpoints.save_best(WEIGHTS)
    torch.testing.assert_close(checkpoints.load_best(), WEIGHTS)


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "target"
    replace_directory(target, lambda folder: (folder / "file").write_text("old") and None)

    def fail(folder: Path) -> None:
        (folder / "file").write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_directory(target, fail)
    assert contents(target) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_full_disk_is_told_and_the_older_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress("f", step=1), WEIGHTS, {})
    monkeypatch.setattr("intract_lsp.training.checkpoint.save_file", full)
    with pytest.raises(TrainingError, match=r"No space left on device.*free some disk"):
        checkpoints.save(Progress("f", step=2), WEIGHTS, {})
    with pytest.raises(TrainingError, match="free some disk"):
        checkpoints.save_best(WEIGHTS)
    found = checkpoints.load("f")
    assert found is not None and found[0].step == 1


@pytest.mark.parametrize("moment", range(3))
def test_killed_at_any_rename_one_of_both_is_found(
    moment: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(Progress("f", step=1), WEIGHTS, {})
    left = [moment]
    rename = Path.rename

    def once(self: Path, target: Path) -> Path:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", once)
        if moment < 2:
            with pytest.raises(Killed):
                checkpoints.save(Progress("f", step=2), WEIGHTS, {})
        else:
            checkpoints.save(Progress("f", step=2), WEIGHTS, {})
    found = checkpoints.load("f")
    assert found is not None
    assert found[0].step == (2 if moment == 2 else 1)
    checkpoints.save(Progress("f", step=3), WEIGHTS, {})
    found = checkpoints.load("f")
    assert found is not None and found[0].step == 3
    assert [path.name for path in tmp_path.iterdir()] == ["latest"]


def descend(parameter: torch.nn.Parameter, optimiser: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step))
        optimiser.step()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimiser_goes_on_as_if_it_had_not_stopped(name: str) -> None:
    start = torch.randn(64, 80, generator=torch.Generator().manual_seed(9))
    whole = torch.nn.Parameter(start.clone())
    descend(whole, make_optimiser(name, [whole], 0.1), range(6))
    first = torch.nn.Parameter(start.clone())
    optimiser = make_optimiser(name, [first], 0.1)
    descend(first, optimiser, range(3))
    second = torch.nn.Parameter(first.detach().clone())
    again = make_optimiser(name, [second], 0.1)
    load_state(again, state_tensors(optimiser))
    descend(second, again, range(3, 6))
    assert not torch.allclose(whole, start, atol=0.01)
    torch.testing.assert_close(second, whole)


def test_optimisers_that_are_not_there() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(TrainingError, match=r"no optimiser adam: set training\.optim to one of adamw_torch"):
        make_optimiser("adam", [parameter], 0.1)
    with pytest.raises(TrainingError, match="another optimiser"):
        load_state(make_optimiser("sgd", [parameter], 0.1), {"3.step": torch.zeros(1)})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bitsandbytes.optim.adamw", None)
    with pytest.raises(TrainingError, match="needs the package bitsandbytes"):
        make_optimiser("adamw_8bit", [torch.nn.Parameter(torch.zeros(2))], 0.1)
