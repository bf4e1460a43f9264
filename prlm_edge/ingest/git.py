"""A user's own commits as Items: changed files and message body -> subject line, and an account of the change.

Only the user's commits are read, and no e-mail address is kept. A change is read by what reads `git diff --staged` of a
request, so that the two are told in the same words.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from prlm_edge.errors import UsageError
from prlm_edge.ingest.common import OnProgress, OnSkip, ignore_progress, ignore_skip
from prlm_edge.ingest.condense import account, shown_names
from prlm_edge.ingest.diff import CHANGE_CHARS, change_text
from prlm_edge.ingest.diff_files import FileChange, parse_diff, unquoted
from prlm_edge.ingest.git_process import DIFF_FLAGS, PartialCloneError, git, git_lines
from prlm_edge.ingest.message import clean_body, redact
from prlm_edge.types import Item

_BATCH = 256
_MAX_DIFF = 2000  # changed lines beyond which a diff says less than its file names
_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_RAW = re.compile(r":(\d{6}) (\d{6}) [0-9a-f.]+ [0-9a-f.]+ ([A-Z])\d*\t([^\t]+)(?:\t([^\t]+))?")
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
    """One commit as git tells it. `has_diff` is False where only the names of its files are here."""

    hash: str
    date: str
    subject: str
    body: str
    files: list[FileChange]
    has_diff: bool


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
    for commit in _commits(repo, hashes) if hashes else ():
        subject, body = _BY_SERVER.sub("", commit.subject.strip()), clean_body(commit.body)
        if not subject:
            on_skip(commit.hash[:12], "no subject")
        elif _BY_GIT.match(subject):
            on_skip(commit.hash[:12], "written by git (fixup, revert or merge)")
        elif "\ufffd" in subject + body:
            on_skip(commit.hash[:12], _NOT_UTF8)
        else:
            yield _item(commit, subject, body, source)


def _item(commit: Commit, subject: str, body: str, source: str) -> Item:
    names = list(dict.fromkeys(file.name for file in commit.files))
    meta: dict[str, int | str] = {"files": len({file.path for file in commit.files})}
    if commit.has_diff:
        added, deleted = (sum(getattr(file, name) for file in commit.files) for name in ("added", "deleted"))
        meta |= {"insertions": added, "deletions": deleted}
        done = account(commit.files, CHANGE_CHARS)
        meta |= {"change": redact(change_text(shown_names(commit.files), done))} if names else {}
        if not body and added + deleted <= _MAX_DIFF:  # where nothing was said, what was done has to speak
            body = done
    return Item(
        id=f"c{commit.hash[:12]}",
        text=redact(change_text(names, body)),
        title=redact(subject),
        date=commit.date,
        kind="commit",
        source=source,
        meta=meta,
    )


def _own_commits(repo: Path, wanted: Sequence[str], rev: str, since: str) -> list[str]:
    """Hashes of the user's commits, oldest first. Compared here, exactly: git's --author takes part of an address."""
    names: Counter[str] = Counter()
    hashes = []
    form = "--format=%H%x00%as%x00%an%x00%aN%x00%ae%x00%aE"
    for line in git_lines(repo, ["log", "--no-merges", "--reverse", form, "--end-of-options", rev, "--"]):
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


def _commits(repo: Path, hashes: Sequence[str]) -> Iterator[Commit]:
    """The commits of these hashes, one at a time; in a partial clone without what only file contents tell."""
    done = 0
    try:
        for commit in _logged(repo, hashes, ["-p", "-M"], lambda lines: parse_diff(lines)[0], has_diff=True):
            yield commit
            done += 1
    except PartialCloneError:
        yield from _logged(repo, hashes[done:], ["--raw", "-M100%"], _listed, has_diff=False)


def _logged(
    repo: Path,
    hashes: Sequence[str],
    options: Sequence[str],
    read_files: Callable[[Iterable[str]], list[FileChange]],
    *,
    has_diff: bool,
) -> Iterator[Commit]:
    """What git logs of these commits. Only a commit's first line and the line behind its message begin with NUL."""
    form = "--format=%x00%H%n%as%n%s%n%b%n%x00"
    prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
    lines = git_lines(repo, ["log", "--stdin", "--no-walk=unsorted", *DIFF_FLAGS, *prefixes, *options, form], hashes)
    first = next(lines, "")
    while first:
        date, subject = next(lines, ""), next(lines, "")
        body = "\n".join(iter(lambda: next(lines, "\0"), "\0"))
        behind: list[str] = []
        yield Commit(first[1:], date, subject, body, read_files(_until_next(lines, behind)), has_diff)
        first = "".join(behind)


def _until_next(lines: Iterable[str], behind: list[str]) -> Iterator[str]:
    """The lines up to the next commit; its first line goes to `behind`."""
    for line in lines:
        if line.startswith("\0"):
            behind.append(line)
            return
        yield line


def _listed(lines: Iterable[str]) -> list[FileChange]:
    """The files of `git log --raw`."""
    files = []
    for line in lines:
        if match := _RAW.fullmatch(line):
            before, after, status, old, new = match.groups()
            file = FileChange(unquoted(new or old))
            file.mark(_STATUS.get(status, ""))
            file.mark(f"{'renamed' if status == 'R' else 'copied'} from {unquoted(old)}" if new else "")
            file.mark_mode(before, after)
            files.append(file)
    return files


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
