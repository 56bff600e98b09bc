from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_projects import commit, copy, git, module, project, spec

from intract_lsp.errors import TrainingError
from intract_lsp.index.policy import Refusal
from intract_lsp.training import git_objects
from intract_lsp.training.git_objects import Added, GitFailure, GitFolder
from intract_lsp.training.history import find_cut, recent_lines
from intract_lsp.training.project import EXCLUDED, LACKING, SUBMODULE, cut_tree


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return project(tmp_path_factory.mktemp("project"))


def everything(path: str) -> bool:
    return True


def test_changes_are_the_lines_that_the_older_commit_lacks(tmp_path: Path) -> None:
    lines = [f"line {number}\n" for number in range(20)]
    old = commit(tmp_path, {"a b.py": "".join(lines), "gone.py": "x\n", "ü.py": "1\n", "same.py": "s\n"})
    lines[3] = "other\n"
    lines[10:10] = ["new 1\n", "new 2\n"]
    (tmp_path / "gone.py").unlink()
    new = commit(tmp_path, {"a b.py": "".join(lines), "ü.py": "1\n2", 'q"\t.py': "@@ -1 +1 @@\ndiff --git a/x b/x\n"})
    found = {change.path: change for change in GitFolder(tmp_path).changes(old, new)}
    assert set(found) == {"a b.py", "ü.py", 'q"\t.py'}
    assert found["a b.py"].added == (Added(3, 4, False), Added(10, 12, True))
    assert found["ü.py"].added == (Added(1, 2, True),)
    assert found['q"\t.py'].added == (Added(0, 2, True),)
    assert [change.is_new for change in found.values()] == [path == 'q"\t.py' for path in found]


def test_a_renamed_file_brings_only_its_new_lines(tmp_path: Path) -> None:
    text = module("one", 5)
    old = commit(tmp_path, {"a.py": text})
    (tmp_path / "a.py").unlink()
    new = commit(tmp_path, {"b.py": text + "added = 1\n"})
    (change,) = GitFolder(tmp_path).changes(old, new)
    assert (change.old_path, change.path, change.is_new) == ("a.py", "b.py", False)
    count = len(text.split("\n")) - 1
    assert change.added == (Added(count, count + 1, True),)


def test_paths_are_those_of_the_folder_and_nothing_of_the_repository_is_written(tmp_path: Path) -> None:
    old = commit(tmp_path, {"sub/a.py": "1\n", "other/b.py": "2\n"})
    new = commit(tmp_path, {"sub/a.py": "1\n3\n", "other/b.py": "2\n4\n"})
    (tmp_path / "sub" / "a.py").write_text("uncommitted\n")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / ".git").rglob("*")}
    folder = GitFolder(tmp_path / "sub")
    assert set(folder.tree(new).blobs) == {"a.py"}
    assert [change.path for change in folder.changes(old, new)] == ["a.py"]
    blob = folder.tree(new).blobs["a.py"]
    assert folder.contents([blob], 100) == {blob: b"1\n3\n"}
    assert folder.contents([blob], 3) == {}
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / ".git").rglob("*")} == before


@pytest.mark.parametrize("make", ["nothing", "no commit"])
def test_no_history(tmp_path: Path, make: str) -> None:
    if make == "no commit":
        git(tmp_path, "init", "-q")
    with pytest.raises(GitFailure):
        GitFolder(tmp_path)


def test_signatures_that_git_is_told_to_show_are_no_commits(
    tmp_path: Path, template: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "project"
    copy(template, root)
    before = GitFolder(root).commits()
    described, _, message = git(root, "cat-file", "commit", "HEAD").partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n abcd\n -----END PGP SIGNATURE-----"
    (tmp_path / "commit").write_text(f"{described}\n{signature}\n\n{message}\n")
    signed = git(root, "hash-object", "-t", "commit", "-w", str(tmp_path / "commit"))
    git(root, "update-ref", "HEAD", signed)
    gpg = tmp_path / "gpg"
    gpg.write_text("#!/bin/sh\necho 'gpg: Signature made today' >&2\necho '[GNUPG:] GOODSIG 1 a'\n")
    gpg.chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(f"[log]\nshowSignature = true\n[gpg]\nprogram = {gpg}\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    assert GitFolder(root).commits() == [signed, *before[1:]]


def test_submodules_and_links_are_named_among_what_is_left_out(tmp_path: Path, template: Path) -> None:
    root = tmp_path / "outer"
    copy(template, root)
    (root / "link.py").symlink_to("src/one.py")
    git(root, "add", "link.py")
    git(root, "update-index", "--add", "--cacheinfo", f"160000,{git(root, 'rev-parse', 'HEAD')},inner")
    git(root, "commit", "-qm", "links")
    folder = GitFolder(root)
    assert folder.tree(folder.head).links == {"inner": True, "link.py": False}
    refused = {each.path: each.reason for each in cut_tree(spec(root, least_held_out=100_000)).refused}
    assert refused["inner"] == SUBMODULE
    assert refused["link.py"] == Refusal.SYMLINK.value


def test_the_cut_is_as_new_as_the_lines_allow(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    folder = GitFolder(tmp_path)
    commits = folder.commits()
    assert len(commits) == 20
    assert folder.commits(since=folder.commit("HEAD~5")) == commits[:5]
    added = [
        sum(lines.end - lines.start for change in folder.changes(commits[back], folder.head) for lines in change.added)
        for back in range(11)
    ]
    assert added == sorted(added) and added[1] > 5
    for lines, places in ((10, 1000), (170, 1000), (350, 1000), (800, 1000), (10_000, 3), (10_000, 7)):
        enough = min(lines / 10, places * 10)
        cut = find_cut(folder, commits, everything, lines, places, 1)
        back = next(number for number in range(1, 11) if added[number] >= enough)
        assert cut is not None
        assert (cut.held_out_commits, cut.commit) == (back, commits[back])
    # What every run needs at least is enough, and not too little.
    cut = find_cut(folder, commits, everything, 10, 1, added[3])
    assert cut is not None and cut.held_out_commits == 3
    # Half of the commits have to stay.
    cut = find_cut(folder, commits, everything, 10_000, 1000, 1)
    assert cut is not None and cut.held_out_commits == 10
    assert find_cut(folder, commits, everything, 10_000, 1000, added[10] + 1) is None
    assert find_cut(folder, commits, lambda path: False, 100, 10, 1) is None
    assert find_cut(folder, commits[:1], everything, 100, 10, 0) is None


def test_recent_lines_weigh_by_how_much_was_changed_since(tmp_path: Path) -> None:
    text = "".join(f"old {number}\n" for number in range(90))
    commit(tmp_path, {"a.py": text, "other.txt": ""}, day=-1000)
    commit(tmp_path, {"a.py": (text := text + "middle\n" * 4)}, day=100)
    commit(tmp_path, {"a.py": text + "new\n" * 4, "other.txt": "prose\n" * 90}, day=190)
    commit(tmp_path, {"b.py": "newest\n" * 2}, day=190)
    folder = GitFolder(tmp_path)
    commits = folder.commits()
    found = recent_lines(folder, commits, commits[0], {"a.py", "b.py"}.__contains__, 100)
    # Two lines in the newest commit, four in each of the two before it; four commits back there is none.
    assert {path: set(lines) for path, lines in found.items()} == {"a.py": set(range(90, 98)), "b.py": {0, 1}}
    assert found["b.py"][1] == pytest.approx(0.5 ** (0.01 / 0.1))
    assert found["a.py"][94] == pytest.approx(0.5 ** (0.04 / 0.1))
    assert found["a.py"][90] == pytest.approx(0.5 ** (0.08 / 0.1))
    # From an older commit on, what came later is not there.
    assert set(recent_lines(folder, commits, commits[2], {"a.py"}.__contains__, 94)["a.py"]) == set(range(90, 94))
    assert not recent_lines(folder, commits, commits[3], {"a.py"}.__contains__, 90)


def test_changes_are_looked_at_until_half_of_the_code_was_changed(tmp_path: Path) -> None:
    for number in range(9):
        commit(tmp_path, {f"{number}.py": f"{number}\n" * 10}, day=number)
    folder = GitFolder(tmp_path)
    commits = folder.commits()
    found = recent_lines(folder, commits, commits[0], everything, 90)
    weights = {path: next(iter(lines.values())) for path, lines in found.items()}
    # One commit back, two, four, eight; what lies in between is as old as the older one says.
    assert set(weights) == {f"{number}.py" for number in range(1, 9)}
    assert weights["8.py"] > weights["7.py"] > weights["6.py"] == weights["5.py"] > weights["4.py"] == weights["1.py"]
    assert set(recent_lines(folder, commits, commits[0], everything, 40)) == {f"{number}.py" for number in (7, 8)}


def test_the_tree_at_the_cut_has_nothing_of_what_came_later(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    (tmp_path / "src" / "one.py").write_text("uncommitted = True\n" * 100)
    tree = cut_tree(spec(tmp_path, held_out=4, least_held_out=2))
    assert (tree.weak, tree.held_out_commits) == (False, 5)
    assert tree.head == git(tmp_path, "rev-parse", "HEAD")
    assert tree.commit == git(tmp_path, "rev-parse", "HEAD~5")
    shown = b"".join(tree.contents.values()).decode()
    assert "def new14_" in shown and "def new15_" not in shown and "uncommitted" not in shown
    measured = "".join(
        "\n".join(piece.lines[lines.start : lines.end])
        for file in tree.held_out
        for piece in file.pieces
        for lines in file.added or ()
    )
    assert all(f"def new{number}_" in measured for number in range(15, 20))
    assert "def new14_" not in measured and "uncommitted" not in measured
    tree.write(tmp_path / "scratch")
    assert (tmp_path / "scratch" / "src" / "two.py").read_text() == git(
        tmp_path, "show", f"{tree.commit}:src/two.py"
    ) + "\n"


def test_a_run_that_goes_on_sees_the_same_tree_whatever_was_committed_since(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    asked = spec(tmp_path, held_out=4, least_held_out=2)
    tree = cut_tree(asked)
    commit(tmp_path, {"src/later.py": module("later", 30)}, day=300)
    assert cut_tree(asked).commit != tree.commit
    again = cut_tree(asked, (tree.commit, tree.head))
    assert again.contents == tree.contents and again.files == tree.files
    with pytest.raises(TrainingError, match="start a new run"):
        cut_tree(asked, ("0" * 40, tree.head))
    with pytest.raises(TrainingError, match="start a new run"):
        cut_tree(asked, (tree.commit, "0" * 40))


def test_renamed_files_are_trained_on_and_deleted_ones_are_not(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    (tmp_path / "src" / "two.py").rename(tmp_path / "src" / "second.py")
    (tmp_path / "src" / "three.py").unlink()
    commit(tmp_path, {"src/one.py": module("one", 25)}, day=210)
    tree = cut_tree(spec(tmp_path, held_out=4, least_held_out=2))
    assert tree.held_out_commits == 1
    assert "src/two.py" in tree.contents and "src/two.py" in {file.path for file in tree.files}
    assert "src/three.py" not in tree.contents
    assert {each.path: each.reason for each in tree.refused}["src/three.py"] == "It is not there any more."
    assert {piece.path for file in tree.held_out for piece in file.pieces if file.added} >= {"src/one.py"}


@pytest.mark.parametrize("excluded", ["src/two.py", "src/second.py", "/src/[st]*o*"])
def test_what_is_excluded_is_neither_learnt_from_nor_shown_nor_measured_at(
    tmp_path: Path, template: Path, excluded: str
) -> None:
    copy(template, tmp_path)
    (tmp_path / "src" / "two.py").rename(tmp_path / "src" / "second.py")
    longer = (tmp_path / "src" / "second.py").read_text() + module("longer", 3)
    commit(tmp_path, {"src/one.py": module("one", 25), "src/second.py": longer}, day=210)
    for root in (tmp_path, tmp_path / "src"):
        given = excluded if root == tmp_path else excluded.replace("src/", "")
        tree = cut_tree(spec(root, held_out=4, least_held_out=2, exclude=(given,)))
        learnt = {Path(path).name for path in {*tree.contents, *(file.path for file in tree.files)}}
        measured = {Path(piece.path).name for file in tree.held_out for piece in file.pieces}
        assert "one.py" in learnt and "one.py" in measured
        assert "two.py" not in learnt, "whether it is named as it was at the cut, or as it is today"
        assert ("second.py" in measured) == (excluded == "src/two.py")
        reason = {Path(refused.path).name: refused.reason for refused in tree.refused}["two.py"]
        assert reason == ("It is not there any more." if "second" in excluded else EXCLUDED)


@pytest.mark.parametrize("kind", ["no git", "one commit", "no commit"])
def test_without_a_history_whole_files_are_held_out(tmp_path: Path, kind: str) -> None:
    files = {f"src/{name}.py": module(name, 8) for name in ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k")}
    if kind == "one commit":
        commit(tmp_path, files)
    else:
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
        if kind == "no commit":
            git(tmp_path, "init", "-q")
    tree = cut_tree(spec(tmp_path))
    held = {piece.path for file in tree.held_out for piece in file.pieces}
    assert tree.weak and len(held) == 2
    without = cut_tree(spec(tmp_path, exclude=("/src/[a-e].py",)))
    assert {path for path in without.contents if path[4] in "abcde"} == set()
    assert [refused.path[4] for refused in without.refused if refused.reason == EXCLUDED] == [*"abcde"]
    assert {file.path for file in tree.files} == set(tree.contents) == set(files) - held
    # More files do not change which of the old ones are chosen, as long as there is room.
    assert {piece.path for file in cut_tree(spec(tmp_path)).held_out for piece in file.pieces} == held


@pytest.mark.parametrize("has_git", [True, False])
def test_without_places_to_measure_at_all_code_is_trained_on(tmp_path: Path, template: Path, has_git: bool) -> None:
    copy(template, tmp_path)
    if not has_git:
        (tmp_path / ".git").rename(tmp_path.parent / "elsewhere")
    tree = cut_tree(spec(tmp_path, held_out=0))
    assert {file.path: file.text for file in tree.files} == {
        f"src/{path.name}": path.read_text() for path in (tmp_path / "src").iterdir()
    }
    assert (tree.held_out, tree.new_files, tree.weak) == ((), (), False)
    assert cut_tree(spec(tmp_path, held_out=0), (tree.commit, tree.head)) == tree


def test_ignored_secret_and_vanished_files_stay_out(tmp_path: Path, template: Path) -> None:
    copy(template, tmp_path)
    commit(
        tmp_path,
        {
            ".intractignore": "private/\n",
            "private/a.py": module("private", 5),
            "deploy/id_rsa": "x" * 100,
            "old.py": module("old", 5),
            "vendor/v.py": module("vendored", 5),
            "README.md": "# Words\n",
            "big.lock": "x\n",
        },
        day=195,
    )
    commit(tmp_path, {"src/one.py": module("one", 30)}, day=201)
    (tmp_path / "old.py").unlink()
    tree = cut_tree(spec(tmp_path, held_out=4, least_held_out=2))
    assert not tree.weak
    assert set(tree.contents) == {"README.md", *(f"src/{name}.py" for name in ("one", "two", "three", "four"))}
    assert {file.path for file in tree.files} == set(tree.contents) - {"README.md"}
    reasons = {refused.path: refused.reason for refused in tree.refused}
    assert reasons["private/a.py"] == "An .intractignore file excludes it."
    assert reasons["deploy/id_rsa"] == "Files with such a name hold secrets."
    assert reasons["old.py"] == "It is not there any more."
    assert "prose" in reasons["README.md"]


def test_a_partial_clone_is_asked_for_nothing_that_it_lacks(tmp_path: Path, template: Path) -> None:
    whole = copy(template, tmp_path / "whole")
    commit(whole, {"src/one.py": module("one", 12), "src/lost.py": module("lost", 6)}, day=210)
    commit(whole, {"src/two.py": module("two", 30), "src/lost.py": module("lost", 7)}, day=211)
    git(whole, "config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "partial"
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-local", whole.as_uri(), str(partial))
    clone = GitFolder(partial)
    now = clone.tree(clone.head).blobs
    assert clone.missing(clone.head).isdisjoint(now.values())
    old = clone.commits()[1]
    # The clone has the newest blobs alone, so the two files that the newest commit changed are not there before.
    assert clone.missing(old) == {clone.tree(old).blobs[path] for path in ("src/two.py", "src/lost.py")}
    assert clone.changes(old, clone.head) == []
    objects = sorted((partial / ".git" / "objects").rglob("*"))
    tree = cut_tree(spec(partial))
    assert tree.weak and all(each.reason != LACKING for each in tree.refused)
    assert sorted((partial / ".git" / "objects").rglob("*")) == objects


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=5), st.binary(max_size=30))
def test_patches_are_read_by_their_counts(hunks: list[tuple[int, int]], noise: bytes) -> None:
    noise = noise.replace(b"\n", b"@")
    patch, expected, at = [b"diff --git a/x b/x", b"--- a/x", b"+++ b/x"], [], 1
    for removed, added in hunks:
        patch.append(b"@@ -5,%d +%d,%d @@ %s" % (removed, at, added, noise))
        patch += [b"-diff --git " + noise] * removed + [b"+@@ -1 +1 @@" + noise] * added
        if added:
            expected.append(Added(at - 1, at - 1 + added, removed == 0))
        at += added + 3
    assert list(git_objects._hunks(b"\n".join(patch))) == [expected]


def test_a_notebook_is_trained_on_and_not_measured_at(tmp_path: Path) -> None:
    def book(functions: int) -> str:
        cells = [{"cell_type": "code", "source": [f"{line}\n" for line in module("book", functions).split("\n")]}]
        return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}, indent=1)

    texts = {f"src/{name}.py": module(name, 12) for name in ("one", "two", "three")}
    commit(tmp_path, {**texts, "book.ipynb": book(3)})
    for number in range(1, 12):
        path = list(texts)[number % 3]
        texts[path] += module(f"new{number}", 2, first=number * 3).split("import os\n")[1]
        commit(tmp_path, {path: texts[path], "book.ipynb": book(3 + number)}, day=number * 10)
    tree = cut_tree(spec(tmp_path, held_out=20, least_held_out=5))
    assert not tree.weak
    (notebook,) = (file for file in tree.files if file.path == "book.ipynb")
    assert "def book_2(" in notebook.pieces[0].text
    held_out = {piece.path for file in tree.held_out for piece in file.pieces}
    assert held_out
    assert "book.ipynb" not in held_out | set(tree.recent)
