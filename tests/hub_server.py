"""A small stand-in for the Hub's HTTP API on the loopback interface: models and data sets in memory.

It answers what `huggingface_hub` asks when it creates, uploads to, downloads from or reads in a repository, with plain
LFS (set `HF_HUB_DISABLE_XET=1`), and the error codes of missing, private and gated repositories.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import RLock, Thread
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

USER = "tester"
EXPIRED_TOKEN = "hf_expired"  # as good as none; any other is USER's
LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".parquet", ".png")
REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>models|datasets)/{REPO}"
PAGE = rf"/((?P<kind>datasets)/)?{REPO}"
ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("POST", r"/api/validate-yaml", "validate_yaml"),
    ("GET", rf"{API}(/revision/(?P<revision>.+))?", "info"),
    ("GET", rf"{API}/tree/(?P<revision>[^/]+)/?(?P<path>.*)", "tree"),
    ("POST", rf"{API}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"{API}/branch/(?P<branch>.+)", "branch"),
    ("POST", rf"{API}/commit/(?P<revision>[^/]+)", "commit"),
    ("POST", rf"{PAGE}\.git/info/lfs/objects/batch", "lfs_batch"),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_put"),
    ("POST", r"/lfs/verify", "lfs_verify"),
    ("GET", rf"{PAGE}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


@dataclass
class Repository:
    """Commits (sha → path → content) and branches (name → sha) of a model or a data set."""

    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    messages: list[str] = field(default_factory=list)

    def files(self, branch: str = "main") -> dict[str, bytes]:
        """Return the files of a branch."""
        return self.commits[self.branches[branch]]


class HubError(Exception):
    """An answer that is not 200, as the Hub words it in its headers."""

    def __init__(self, status: int, code: str, message: str, **body: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.body = {"error": message, **body}


class HubServer:
    """`with HubServer() as hub:` serves `hub.repositories` at `hub.url`."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}  # LFS: sha256 → content
        self.requests: list[str] = []
        self.lock = RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "HubServer":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: object, token: str | None = "hf_any") -> dict[str, str]:
        """Environment variables for a process that shall know no other Hub; read when it imports the library."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **({} if token is None else {"HF_TOKEN": token}),
        }

    # --- answers, each named in ROUTES

    def whoami(self, token: str | None, **_: Any) -> dict[str, Any]:
        _require_token(token)
        return {"type": "user", "name": USER, "orgs": []}

    def create(self, token: str | None, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        _require_token(token)
        name = f"{body.get('organization') or USER}/{body['name']}"
        name = f"datasets/{name}" if body.get("type") == "dataset" else name
        if name in self.repositories:
            raise HubError(409, "", "You already created this model repo", url=f"{self.url}/{name}")
        self.repositories[name] = Repository(private=body.get("visibility") == "private")
        return {"url": f"{self.url}/{name}", "id": name}

    def validate_yaml(self, **_: Any) -> dict[str, Any]:
        return {"errors": [], "warnings": []}

    def info(self, repo: str, token: str | None, revision: str = "main", **_: Any) -> dict[str, Any]:
        found = self._find(repo, token)
        sha, files = _commit(found, revision)
        siblings = [{"rfilename": path} for path in files]
        return {
            "id": repo,
            "modelId": repo,
            "sha": sha,
            "private": found.private,
            "gated": "manual" if found.gated else False,
            "tags": [],
            "siblings": siblings,
        }

    def tree(
        self, repo: str, token: str | None, revision: str, path: str, asked: dict[str, str], **_: Any
    ) -> list[dict[str, Any]]:
        _, files = _commit(self._find(repo, token), revision)
        inside = {name: content for name, content in files.items() if name.startswith(path and path + "/")}
        if path and not inside:
            raise HubError(404, "EntryNotFound", f"{path} does not exist")
        begin = len(path and path + "/")
        apart = asked.get("recursive") != "true"  # folders are named, and what lies in them is not
        below = {name[: name.index("/", begin)] for name in inside if "/" in name[begin:] and apart}
        folders = [{"type": "directory", "path": name, "size": 0, "oid": "0" * 40} for name in sorted(below)]
        return folders + [
            {"type": "file", "path": name, "size": len(content), "oid": _git_oid(content)}
            for name, content in inside.items()
            if not (apart and "/" in name[begin:])
        ]

    def branch(self, repo: str, token: str | None, branch: str, **_: Any) -> dict[str, Any]:
        found = self._find(repo, token, write=True)
        if branch in found.branches:
            raise HubError(409, "", "Reference already exists")
        found.branches[branch] = found.branches["main"]
        return {}

    def preupload(self, repo: str, token: str | None, revision: str, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        _commit(self._find(repo, token, write=True), revision)
        return {
            "files": [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                    "shouldIgnore": False,
                }
                for file in body["files"]
            ]
        }

    def lfs_batch(self, repo: str, token: str | None, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        self._find(repo, token, write=True)
        actions = {"verify": {"href": f"{self.url}/lfs/verify"}}
        objects = [
            {**wanted, "actions": {"upload": {"href": f"{self.url}/lfs/{wanted['oid']}"}, **actions}}
            for wanted in body["objects"]
        ]
        return {"transfer": "basic", "objects": objects}

    def lfs_put(self, oid: str, body: bytes, **_: Any) -> dict[str, Any]:
        if hashlib.sha256(body).hexdigest() != oid:
            raise HubError(400, "", "The content is not that of its oid")
        self.large[oid] = body
        return {}

    def lfs_verify(self, body: dict[str, Any], **_: Any) -> dict[str, Any]:
        if len(self.large[body["oid"]]) != body["size"]:
            raise HubError(400, "", "The content is not of its size")
        return {}

    def commit(
        self, repo: str, token: str | None, revision: str, body: list[dict[str, Any]], **_: Any
    ) -> dict[str, Any]:
        found = self._find(repo, token, write=True)
        parent, before = _commit(found, revision)
        files = dict(before)
        for line in body:
            kind, value = line["key"], line["value"]
            if kind == "header":
                found.messages.append(value["summary"])
            elif kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
            else:
                raise HubError(400, "", f"unknown operation {kind}")
        listing = "".join(f"{path} {_git_oid(content)}\n" for path, content in sorted(files.items()))
        sha = hashlib.sha1(f"{parent}\n{len(found.commits)}\n{listing}".encode()).hexdigest()
        found.commits[sha] = files
        found.branches[revision] = sha
        return {"commitUrl": f"{self.url}/{repo}/commit/{sha}", "commitOid": sha, "pullRequestUrl": None}

    def resolve(self, repo: str, token: str | None, revision: str, path: str, **_: Any) -> tuple[bytes, dict[str, str]]:
        found = self._find(repo, token)
        if found.gated:
            raise HubError(403, "GatedRepo", f"Access to model {repo} is restricted")
        sha, files = _commit(found, revision)
        if path not in files:
            raise HubError(404, "EntryNotFound", f"{path} does not exist")
        content = files[path]
        oid = hashlib.sha256(content).hexdigest() if path.endswith(LFS_SUFFIXES) else _git_oid(content)
        return content, {"X-Repo-Commit": sha, "ETag": f'"{oid}"', "X-Linked-Etag": f'"{oid}"'}

    def _find(self, repo: str, token: str | None, write: bool = False) -> Repository:
        """Return a repository; private ones look missing to strangers."""
        if write:
            _require_token(token)
        found = self.repositories.get(repo)
        if found is not None and not (found.private and token is None):
            return found
        if token is None:
            raise HubError(401, "RepoNotFound", "Invalid username or password.")
        raise HubError(404, "RepoNotFound", "Repository not found")


def _require_token(token: str | None) -> None:
    if token is None:
        raise HubError(401, "", "Invalid username or password.")


def _commit(found: Repository, revision: str) -> tuple[str, dict[str, bytes]]:
    sha = found.branches.get(revision, revision)
    if sha not in found.commits:
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return sha, found.commits[sha]


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and content leave together: apart, each answer would wait for an acknowledgement
    hub: HubServer

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("GET")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        path, asked = unquote(parts.path), dict(parse_qsl(parts.query))
        body = self._body()
        authorization = self.headers.get("Authorization")
        token = authorization.removeprefix("Bearer ") if authorization else None
        token = None if token == EXPIRED_TOKEN else token
        try:
            with self.hub.lock:
                self.hub.requests.append(f"{self.command} {path}")
                answer = self._dispatch(method, path, token=token, body=body, asked=asked)
        except HubError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
            self._send(error.status, json.dumps(error.body).encode(), headers)
        else:
            content, headers = answer if isinstance(answer, tuple) else (json.dumps(answer).encode(), {})
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range") or "")
            if wanted:
                first, last = int(wanted[1]), min(int(wanted[2]), len(content) - 1)
                headers = {**headers, "Content-Range": f"bytes {first}-{last}/{len(content)}"}
                content = content[first : last + 1]
            self._send(206 if wanted else 200, content, headers)

    def _dispatch(self, method: str, path: str, **given: Any) -> Any:
        for verb, pattern, name in ROUTES:
            found = re.fullmatch(pattern, path)
            if verb == method and found:
                named = {key: value for key, value in found.groupdict().items() if value is not None}
                if named.pop("kind", "models") == "datasets":
                    named["repo"] = f"datasets/{named['repo']}"
                return getattr(self.hub, name)(**named, **given)
        raise HubError(404, "", f"the stand-in knows no {method} {path}")

    def _body(self) -> Any:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b"".join(self._chunks())
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type") or ""
        if "ndjson" in kind:
            return [json.loads(line) for line in content.splitlines()]
        return json.loads(content) if "json" in kind and content else content

    def _chunks(self) -> Any:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean; `HubServer.requests` has them all."""
