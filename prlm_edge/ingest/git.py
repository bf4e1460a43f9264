"""A user's own commits as Items: changed files and message body -> subject line.

Only the user's commits are read, and no e-mail address is kept.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, ignore_progress, ignore_skip
from prlm_edge.ingest.condense import account
from prlm_edge.ingest.diff import CHANGE_CHARS, change_text
from prlm_edge.ingest.diff_files import FileChange, parse_diff
from prlm_edge.ingest.git_process import DIFF_FLAGS, PartialCloneError, git, git_stream
from prlm_edge.ingest.message import clean_body, redact
from prlm_edge.types import Item

_BATCH = 256
_MAX_DIFF = 2000  # changed lines beyond which a diff says less than its file names
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_RAW = re.compile(r"\n?:(\d{6}) (\d{6}) [0-9a-f.]+ [0-9a-f.]+ ([A-Z])\d*")
_NUMSTAT = re.compile(r"\n?(\d+|-)\t(\d+|-)\t(.*)", re.DOTALL)
_BY_GIT = re.compile(
    r'(?:fixup|squash|amend)! |(?:Revert|Reapply) "|Squashed commit of the following:'
    r"|Merge (?:remote-tracking |remote )?(?:branch|branches|tag|tags|commit|commits) '"
    r"|Merge pull request #\d+ from |Merge [0-9a-f]{7,64} into |Merged in \S+ \(pull request #\d+\)"
)
_BY_SERVER = re.compile(r"Merged PR \d+: ")  # Azure, before the user's own subject
_STATUS = {"A": "new", "D": "deleted"}
_NOT_UTF8 = "its message is not UTF-8, and the commit doesn't say what it is"
_CUT_OFF = "at the edge of a shallow clone, where its changes are unknown (git fetch --unshallow brings the rest)"


@dataclass
class Commit:
    """One commit as git tells it. `counted` says whether git could count the changed lines."""

    hash: str
    date: str
    subject: str
    body: str
    files: dict[str, FileChange] = field(default_factory=dict)
    added: int = 0
    deleted: int = 0
    counted: bool = True


def read(
    path: Path,
    *,
    authors: Sequence[str] = (),
    rev: str = "HEAD",
    since: str = "",
    limit: int = 0,
    on_skip: OnSkip = ignore_skip,
    on_progress: OnProgress = ignore_progress,
) -> Iterator[Item]:
    """Yield the user's commits, oldest first, without merges.

    Args:
        path: A folder in the repository.
        authors: E-mail addresses or full names, in any case; git's `user.email` there when empty.
        rev: The branch, tag or range whose history is read.
        since: ISO date or prefix; older commits are left out.
        limit: At most so many, the newest ones; 0 means all.
        on_skip: Told of commits that are left out.
        on_progress: Told of commits done and in all.

    Raises:
        UsageError: No repository, no such revision, no author, or no commit of theirs.
        MissingError: git isn't installed.
    """
    if not path.is_dir():
        raise UsageError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}", "name a git repository")
    source = f"git:{_name(path)}"
    wanted = tuple(a.strip().casefold() for a in authors if a.strip()) or (_own_email(path).casefold(),)
    hashes = _own_commits(path, wanted, rev, since)
    hashes = hashes[-limit:] if limit > 0 else hashes
    cut_off = _cut_off(path)
    done = 0
    todo = iter(hashes)
    while batch := list(islice(todo, _BATCH)):
        for sha in cut_off.intersection(batch):
            on_skip(sha[:12], _CUT_OFF)
        yield from _items(path, [sha for sha in batch if sha not in cut_off], source, on_skip)
        done += len(batch)
        on_progress(done, len(hashes))


def _items(repo: Path, hashes: Sequence[str], source: str, on_skip: OnSkip) -> Iterator[Item]:
    commits = []
    for commit in _commits(repo, hashes) if hashes else ():
        commit.subject = _BY_SERVER.sub("", commit.subject.strip())
        commit.body = clean_body(commit.body)
        if not commit.subject:
            on_skip(commit.hash[:12], "no subject")
        elif _BY_GIT.match(commit.subject):
            on_skip(commit.hash[:12], "written by git (fixup, revert or merge)")
        elif "\ufffd" in commit.subject + commit.body:
            on_skip(commit.hash[:12], _NOT_UTF8)
        else:
            commits.append(commit)
    # Where nothing was said, what was done has to speak, as it does for the diff at hand.
    silent = [c.hash for c in commits if not c.body and c.counted and 0 < c.added + c.deleted <= _MAX_DIFF]
    changed = _changed_lines(repo, silent)
    for commit in commits:
        counts = {"insertions": commit.added, "deletions": commit.deleted} if commit.counted else {}
        names = [file.name for file in commit.files.values()]
        yield Item(
            id=f"c{commit.hash[:12]}",
            text=change_text(names, commit.body or redact(changed.get(commit.hash, ""))),
            title=redact(commit.subject),
            date=commit.date,
            kind="commit",
            source=source,
            meta={"files": len(names), **counts},
        )


def _own_commits(repo: Path, wanted: Sequence[str], rev: str, since: str) -> list[str]:
    """Hashes of the user's commits, oldest first. Compared here, exactly: git's --author takes part of an address."""
    names: Counter[str] = Counter()
    hashes = []
    form = "--format=%H%x00%as%x00%an%x00%aN%x00%ae%x00%aE"
    for line in git_stream(
        repo, ["log", "--no-merges", "--reverse", form, "--end-of-options", rev, "--"], separator=b"\n"
    ):
        sha, date, name, *others = line.split("\0")
        names[name] += 1
        if date >= since and any(who.casefold() in wanted for who in (name, *others)):
            hashes.append(sha)
    if not hashes and not since:
        known = ", ".join(f"{name} ({n})" for name, n in names.most_common(5))
        raise UsageError(
            f"{repo}: no commits by {', '.join(wanted)}", f'say who you are: --author "NAME"; authors here: {known}'
        )
    return hashes


def _cut_off(repo: Path) -> frozenset[str]:
    """Commits that have parents, but not here: those at the edge of a shallow clone, and those cut off by grafts."""
    found = set()
    for name in ("shallow", "info/grafts"):
        file = repo / git(repo, ["rev-parse", "--git-path", name])
        lines = file.read_text("ascii", "replace").splitlines() if file.is_file() else []
        found |= {line.strip() for line in lines if _HASH.fullmatch(line.strip())}  # a graft without parents
    return frozenset(found)


def _commits(repo: Path, hashes: Sequence[str]) -> list[Commit]:
    """The commits of these hashes; in a partial clone without what only file contents tell."""
    try:
        return list(_logged(repo, hashes, ["--numstat", "-M"]))
    except PartialCloneError:
        commits = list(_logged(repo, hashes, ["-M100%"]))
        for commit in commits:
            commit.counted = False
        return commits


def _logged(repo: Path, hashes: Sequence[str], options: Sequence[str]) -> Iterator[Commit]:
    """What git logs of these commits. A path can hold anything but NUL, so fields are cut at NUL alone."""
    form = "--format=%H%x00%as%x00%s%x00%b%x00"
    args = ["log", "--stdin", "--no-walk=unsorted", "-z", "--raw", *DIFF_FLAGS, *options, form]
    tokens = git_stream(repo, args, hashes, separator=b"\0")
    commit: Commit | None = None
    for token in tokens:
        if commit and (raw := _RAW.fullmatch(token)):
            before, after, status = raw.groups()
            path = old = next(tokens, "")
            if status in "RC":
                path = next(tokens, "")
            file = commit.files[path] = FileChange(path)
            file.mark(_STATUS.get(status, ""))
            file.mark({"R": f"renamed from {old}", "C": f"copied from {old}"}.get(status, ""))
            file.mark_mode(before, after)
        elif commit and (stat := _NUMSTAT.fullmatch(token)):
            added, deleted, path = stat.groups()
            if not path:  # a rename: the old and the new path follow
                next(tokens, "")
                path = next(tokens, "")
            commit.added += int(added) if added != "-" else 0
            commit.deleted += int(deleted) if deleted != "-" else 0
            if added == "-" and path in commit.files:
                commit.files[path].mark("binary")
        elif _HASH.fullmatch(token):
            if commit is not None:
                yield commit
            commit = Commit(token, next(tokens, ""), next(tokens, ""), next(tokens, ""))
    if commit is not None:
        yield commit


def _changed_lines(repo: Path, hashes: Sequence[str]) -> Mapping[str, str]:
    """The first changed lines of each of these commits."""
    result: dict[str, str] = {}
    if not hashes:
        return result
    args = ["diff-tree", "--stdin", "--root", "-r", "-p", "-U0", "--src-prefix=a/", "--dst-prefix=b/"]
    current = ""
    lines: list[str] = []
    for line in (*git_stream(repo, [*args, *DIFF_FLAGS, "-M"], hashes, separator=b"\n"), ""):
        if _HASH.fullmatch(line) or not line:  # a line of a diff always begins with its mark or its keyword
            if current and lines:
                result[current] = account(parse_diff(lines)[0], CHANGE_CHARS)
            current, lines = line, []
        else:
            lines.append(line)
    return result


def _name(path: Path) -> str:
    """The repository's folder name."""
    if git(path, ["rev-parse", "--is-bare-repository"]) == "true":
        return Path(git(path, ["rev-parse", "--absolute-git-dir"])).name.removesuffix(".git") or "repository"
    return Path(git(path, ["rev-parse", "--show-toplevel"])).name or "repository"


def _own_email(path: Path) -> str:
    email = git(path, ["config", "--get", "user.email"], ok=(0, 1))
    if not email:
        raise UsageError(f"{path}: git does not know who you are", 'say so: --author "NAME" (or set git\'s user.email)')
    return email
