"""What the index of a run's tree holds: all that the run may see, and nothing of the folders around it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from training_projects import commit, git, module, project, spec

from intract_lsp.completion.generation import CancelToken
from intract_lsp.training.project import cut_tree
from intract_lsp.training.scratch import indexed
from intract_lsp.training.step import Stopped


def shown(workspace: Path, scratch: Path, above: str) -> set[str]:
    """The files of which pieces are shown below a text."""
    with indexed(cut_tree(spec(workspace, held_out=4, least_held_out=2)), scratch, CancelToken()) as retrieve:
        return {chunk.path for chunk in retrieve("src/one.py", "python", above, "", 400)}


@pytest.mark.parametrize("with_git", [True, False])
def test_tracked_files_are_shown_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_git: bool
) -> None:
    root = tmp_path / "project"
    commit(root, {"build/assembling.py": module("assembling", 6), "made.py": module("produced", 6)})
    commit(root, {".gitignore": "made.py\n"})
    project(root)
    home = tmp_path / "home"
    # The run's folder lies in a repository that has nothing to say here, as where someone keeps HOME in one.
    commit(home, {".gitignore": "*.py\n"})
    if not with_git:
        which = shutil.which
        monkeypatch.setattr(
            "intract_lsp.index.git_files.shutil.which", lambda name: None if name == "git" else which(name)
        )
    above = "\n".join(["import assembling", "assembling_1(alpha, beta_1)", "produced_2(beta, gamma_2)", ""])
    found = shown(root, home / "scratch", above)
    assert ("build/assembling.py" in found) is with_git
    assert ("made.py" in found) is with_git
    assert git(home, "status", "--porcelain") == ""
    assert not (home / "scratch").exists()


def test_a_run_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    tree = cut_tree(spec(project(tmp_path / "project"), held_out=4, least_held_out=2))
    token = CancelToken()
    with pytest.raises(Stopped), indexed(tree, tmp_path / "scratch", token) as retrieve:
        token.cancel()
        retrieve("src/one.py", "python", "one_1(", "", 400)
    assert not (tmp_path / "scratch").exists()
