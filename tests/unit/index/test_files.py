"""Listing a folder and asking for one path: the same rules, with git and without."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intract_lsp.errors import IndexingError
from intract_lsp.index import git_files
from intract_lsp.index.files import FilePolicy, Listing, Way, list_files
from intract_lsp.index.policy import Refusal

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
WAYS = (Way.WALK, pytest.param(Way.GIT, marks=needs_git))
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always")


def git(folder: Path, *arguments: str) -> None:
    subprocess.run((*GIT, *arguments), cwd=folder, check=True, capture_output=True)


def write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")


def paths(listing: Listing) -> list[str]:
    return [file.path for file in listing.files]


def prepare(root: Path, way: Way, files: Mapping[str, str]) -> Path:
    root.mkdir(exist_ok=True)
    if way is Way.GIT:
        git(root, "init", "-q")
    write(root, files)
    return root


@pytest.mark.parametrize("way", WAYS)
def test_what_is_listed(tmp_path: Path, way: Way) -> None:
    files = {
        ".gitignore": "*.log.py\n/only_here.py\n!kept.log.py\n",
        "only_here.py": "",
        "a.py": "x = 1\n",
        "b/only_here.py": "",
        "b/x.log.py": "",
        "b/kept.log.py": "",
        "b/.gitignore": "inner.py\n",
        "b/c/inner.py": "",
        "inner.py": "",
        ".env": "X=1",
        "node_modules/x/index.js": "",
        "data.csv": "1",
        "große Datei/日本.md": "# x",
        ".intractignore": "drafts/\n*.tmp.py\n!b.tmp.py\n",
        "drafts/a.py": "",
        "b/a.tmp.py": "",
        "b/b.tmp.py": "",
        "b/c/.intractignore": "b.tmp.py",
        "b/c/b.tmp.py": "",
    }
    root = prepare(tmp_path / "root", way, files)
    listing = list_files(root, 100)
    assert listing.way is way
    assert not listing.capped
    expected = ["a.py", "b/b.tmp.py", "b/kept.log.py", "b/only_here.py", "große Datei/日本.md", "inner.py"]
    assert paths(listing) == expected
    stat = (root / "a.py").stat()
    assert (listing.files[0].size, listing.files[0].mtime_ns) == (6, stat.st_mtime_ns)
    assert listing.refused[Refusal.SECRET_NAME] == 1
    refused = FilePolicy(root).refused(files)
    assert sorted(set(files) - set(refused)) == expected
    assert refused["b/c/inner.py"] is Refusal.IGNORED
    assert refused["drafts/a.py"] is Refusal.INTRACTIGNORE
    assert refused["node_modules/x/index.js"] is Refusal.VENDORED
    assert all(FilePolicy(root).admits(path) is refused.get(path) for path in files)


def test_build_folders_are_left_out_only_where_git_cannot_tell(tmp_path: Path) -> None:
    root = prepare(tmp_path / "root", Way.WALK, {"build/a.py": "", "a.py": ""})
    assert paths(list_files(root, 10)) == ["a.py"]
    assert FilePolicy(root).admits("build/a.py") is Refusal.BUILD_OUTPUT


@needs_git
def test_what_git_tracks_is_listed_whatever_ignores_it(tmp_path: Path) -> None:
    root = prepare(tmp_path / "root", Way.GIT, {"build/a.py": "", "made.py": "", "new.py": "", ".gitignore": "*.py"})
    git(root, "add", "-f", "build/a.py", "made.py")
    (root / "made.py").unlink()
    assert paths(list_files(root, 10)) == ["build/a.py"]
    assert FilePolicy(root).refused(["build/a.py", "made.py", "new.py"]) == {
        "made.py": Refusal.VANISHED,
        "new.py": Refusal.IGNORED,
    }


@pytest.mark.parametrize("way", WAYS)
def test_links_are_not_followed(tmp_path: Path, way: Way) -> None:
    write(tmp_path / "outside", {"secret_plans.py": "x"})
    root = prepare(tmp_path / "root", way, {"a/real.py": ""})
    (root / "loop").symlink_to(root, target_is_directory=True)
    (root / "a/self.py").symlink_to("self.py")
    (root / "away").symlink_to(tmp_path / "outside", target_is_directory=True)
    (root / "again.py").symlink_to("a/real.py")
    os.mkfifo(root / "pipe.py")
    assert paths(list_files(root, 100)) == ["a/real.py"]
    asked = ["loop/a/real.py", "a/self.py", "away/secret_plans.py", "again.py", "pipe.py", "a/real.py"]
    refused = FilePolicy(root).refused(asked)
    assert refused == {**dict.fromkeys(asked[:4], Refusal.SYMLINK), "pipe.py": Refusal.NOT_A_FILE}


@pytest.mark.parametrize("way", WAYS)
def test_paths_that_lead_out_or_are_none(tmp_path: Path, way: Way) -> None:
    root = prepare(tmp_path / "root", way, {"a.py": "", "folder.py/b.py": "", ":(x.py": ""})
    odd = ["../a.py", "/etc/passwd.py", "", "b//a.py", "./a.py", "b/../a.py"]
    bad = ["bad\udcff.py", "\ud800.py", "nul\0.py"]
    refused = FilePolicy(root).refused([*odd, *bad, "folder.py", "a.py/b.py", "no.py"])
    assert [refused.pop(path) for path in odd] == [Refusal.OUTSIDE] * len(odd)
    assert refused == {
        **dict.fromkeys(bad, Refusal.NAME),
        "folder.py": Refusal.NOT_A_FILE,
        "a.py/b.py": Refusal.VANISHED,
        "no.py": Refusal.VANISHED,
    }
    assert paths(list_files(root, 9)) == [":(x.py", "a.py", "folder.py/b.py"]
    assert FilePolicy(root).refused([":(x.py", "a.py"]) == {}


@pytest.mark.parametrize("way", WAYS)
def test_a_virtual_environment_by_any_name(tmp_path: Path, way: Way) -> None:
    root = prepare(tmp_path / "root", way, {"env/pyvenv.cfg": "", "env/lib/a.py": "", "a.py": ""})
    assert paths(list_files(root, 100)) == ["a.py"]
    assert FilePolicy(root).admits("env/lib/a.py") is Refusal.VENDORED


@pytest.mark.parametrize("way", WAYS)
def test_a_huge_root_is_cut_to_what_is_nearest(tmp_path: Path, way: Way) -> None:
    root = prepare(tmp_path / "root", way, {f"{x}{y}/f{z}.py": "" for x in "ab" for y in ("", "/in") for z in range(5)})
    listing = list_files(root, 10)
    assert listing.capped
    assert paths(listing) == [f"{x}/f{z}.py" for x in "ab" for z in range(5)]
    assert not list_files(root, 20).capped


def test_a_walk_does_not_look_at_everything_for_want_of_files(tmp_path: Path) -> None:
    write(tmp_path / "root", {f"{x}.csv": "" for x in range(100)})
    listing = list_files(tmp_path / "root", 2)
    assert listing.capped
    assert listing.refused[Refusal.NOT_SOURCE] == 40


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexingError, match="nowhere"):
        list_files(tmp_path / "nowhere", 10)
    assert FilePolicy(tmp_path / "nowhere").admits("a.py") is Refusal.VANISHED


def test_a_root_that_vanishes_meanwhile_is_no_empty_listing(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, {"a.py": ""})
    with (
        mock.patch("intract_lsp.index.files.listed_by_git", lambda root: shutil.rmtree(root)),
        pytest.raises(IndexingError, match="root"),
    ):
        list_files(root, 10)


def test_a_folder_that_may_not_be_read_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"closed/a.py": "", "open/b.py": ""})
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if str(path).endswith("closed"):
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    listing = list_files(tmp_path, 10)
    assert paths(listing) == ["open/b.py"]
    assert listing.refused == {Refusal.UNREADABLE: 1}


@needs_git
class TestRepositories:
    def test_root_below_the_top(self, tmp_path: Path) -> None:
        root = prepare(tmp_path / "root", Way.GIT, {".gitignore": "/one/no.py", "one/no.py": "", "one/yes.py": ""})
        listing = list_files(root / "one", 10)
        assert (paths(listing), listing.way) == (["yes.py"], Way.GIT)
        assert FilePolicy(root / "one").refused(["no.py", "yes.py"]) == {"no.py": Refusal.IGNORED}

    def test_root_that_its_repository_ignores(self, tmp_path: Path) -> None:
        root = prepare(tmp_path / "root", Way.GIT, {".gitignore": "*", "one/yes.py": "", "one/.gitignore": "no.py"})
        write(root, {"one/no.py": ""})
        listing = list_files(root / "one", 10)
        assert (paths(listing), listing.way) == (["yes.py"], Way.WALK)
        assert FilePolicy(root / "one").refused(["no.py", "yes.py"]) == {"no.py": Refusal.IGNORED}

    def test_worktree(self, tmp_path: Path) -> None:
        root = prepare(tmp_path / "root", Way.GIT, {"a.py": "", ".gitignore": "no.py"})
        git(root, "add", ".")
        git(root, "commit", "-qm", "x")
        git(root, "worktree", "add", "-q", str(tmp_path / "tree"))
        write(tmp_path / "tree", {"b.py": "", "no.py": ""})
        listing = list_files(tmp_path / "tree", 10)
        assert (paths(listing), listing.way) == (["a.py", "b.py"], Way.GIT)
        assert FilePolicy(tmp_path / "tree").admits("no.py") is Refusal.IGNORED

    def test_submodules_and_repositories_inside(self, tmp_path: Path) -> None:
        part = prepare(tmp_path / "part", Way.GIT, {"a.py": "", ".gitignore": "no.py"})
        git(part, "add", ".")
        git(part, "commit", "-qm", "x")
        root = prepare(tmp_path / "root", Way.GIT, {"main.py": "", ".gitignore": "hidden/\n"})
        git(root, "submodule", "add", "-q", str(part), "lib/part")
        git(root, "clone", "-q", str(part), "beside")
        git(root, "clone", "-q", str(part), "hidden")
        write(root, {f"{folder}/{name}.py": "" for folder in ("lib/part", "beside") for name in ("no", "new")})
        listing = list_files(root, 100)
        expected = ["beside/a.py", "beside/new.py", "lib/part/a.py", "lib/part/new.py", "main.py"]
        assert (paths(listing), listing.way) == (expected, Way.GIT)
        asked = [*expected, "beside/no.py", "lib/part/no.py", "hidden/a.py"]
        assert FilePolicy(root).refused(asked) == dict.fromkeys(asked[-3:], Refusal.IGNORED)
        shutil.rmtree(root / "lib/part")
        (root / "lib/part").mkdir()
        assert paths(list_files(root, 100)) == ["beside/a.py", "beside/new.py", "main.py"], "as after a plain clone"

    def test_where_the_server_was_started_does_not_matter(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other = prepare(tmp_path / "other", Way.GIT, {"other.py": ""})
        root = prepare(tmp_path / "root", Way.GIT, {"a.py": ""})
        monkeypatch.setenv("GIT_DIR", str(other / ".git"))
        monkeypatch.setenv("GIT_WORK_TREE", str(other))
        assert paths(list_files(root, 10)) == ["a.py"]

    def test_a_repository_cannot_have_programs_started(self, tmp_path: Path) -> None:
        root = prepare(tmp_path / "root", Way.GIT, {"a.py": ""})
        git(root, "add", ".")
        hook = tmp_path / "hook"
        hook.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
        hook.chmod(0o755)
        git(root, "config", "core.fsmonitor", str(hook))
        assert paths(list_files(root, 10)) == ["a.py"]
        assert FilePolicy(root).admits("a.py") is None
        assert not (tmp_path / "started").exists()

    def test_a_git_that_fails_or_hangs_is_done_without(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        root = prepare(tmp_path / "root", Way.GIT, {"a.py": "", "no.py": "", ".gitignore": "no.py"})
        slow = tmp_path / "bin/git"
        write(tmp_path, {"bin/git": "#!/bin/sh\nexec sleep 60\n"})
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
        monkeypatch.setattr(git_files, "_TIMEOUT_SECONDS", 0.1)
        listing = list_files(root, 10)
        assert (paths(listing), listing.way) == (["a.py"], Way.WALK)
        assert FilePolicy(root).refused(["a.py", "no.py"]) == {"no.py": Refusal.IGNORED}


NAMES = st.sampled_from(("a", "b", "ab", "keep", "x y", "é", ":(x", "[a]", "#a"))
FILES = st.lists(
    st.tuples(st.lists(NAMES, max_size=3), NAMES).map(lambda parts: "/".join((*parts[0], f"{parts[1]}.py"))),
    min_size=1,
    max_size=12,
    unique=True,
)
PATTERNS = st.lists(
    st.tuples(
        st.sampled_from(("", "", "!", "/")),
        st.sampled_from(("a", "b", "*", "a*", "**/b", "a/**", "*.py", "keep", "a.py", "a/b", "?", "[ab]", "a/*/b.py")),
        st.sampled_from(("", "", "/")),
    ).map("".join),
    max_size=4,
).map("\n".join)
FOLDERS = st.sampled_from(("", "a/", "b/", "a/b/", "keep/", "é/"))


@needs_git
@given(
    files=FILES,
    ignores=st.dictionaries(FOLDERS, PATTERNS, max_size=3),
    own=st.dictionaries(FOLDERS, PATTERNS, max_size=1),
)
@settings(max_examples=30)
def test_git_a_walk_and_single_paths_agree(files: list[str], ignores: dict[str, str], own: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        git(root, "init", "-q", "--template=")
        write(root, dict.fromkeys(files, ""))
        write(root, {f"{place}.gitignore": text for place, text in ignores.items()})
        write(root, {f"{place}.intractignore": text for place, text in own.items()})
        by_git = list_files(root, 100)
        refused_by_git = FilePolicy(root).refused(files)
        with mock.patch("shutil.which", lambda _: None):
            by_walk = list_files(root, 100)
            refused_by_walk = FilePolicy(root).refused(files)
        assert (by_git.way, by_walk.way) == (Way.GIT, Way.WALK)
        assert by_git.files == by_walk.files
        assert set(refused_by_git) == set(refused_by_walk) == set(files) - set(paths(by_git))


@needs_git
def test_a_folder_is_made_to_track_files_whatever_ids_new_repositories_are_to_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(
        tmp_path,
        {"gitconfig": "[init]\n\tdefaultObjectFormat = sha256\n", "root/.gitignore": "*.py\n", "root/a.py": ""},
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    git_files.track(tmp_path / "root", ["a.py"])
    assert sorted(git_files.listed_by_git(tmp_path / "root") or ()) == [".gitignore", "a.py"]
    write(tmp_path, {"broken/.git": "no link"})
    with caplog.at_level("INFO"):
        git_files.track(tmp_path / "broken", ["a.py"])
    assert caplog.messages == ["git init: exit code 128"]
