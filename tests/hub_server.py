"""A hub on 127.0.0.1: the endpoints that huggingface_hub uses to download a file, and the faults a network has.

As on the real hub, `/datasets/<repo>/resolve/<revision>/<file>` answers with the commit, the size and the sha256 of
the file, and redirects to another host for the content; the other host here is `localhost`. Of a model,
`/api/models/<repo>/revision/<revision>` tells the commit and `/api/models/<repo>/tree/<commit>` the files.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

COMMIT = "0123456789abcdef0123456789abcdef01234567"
STALL_SECONDS = 20  # after which a stalled response ends, should nobody have killed its reader


@dataclass(frozen=True)
class Request:
    """What a client asked: method, path, and the headers that matter to the tests."""

    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class HubServer:
    """Serves `files` of one dataset or model. The faults may be set at any time; those named `next_` happen once."""

    repo: str
    files: dict[str, bytes]
    requests: list[Request] = field(default_factory=list)
    next_cut: int | None = None  # end the connection after so many bytes of content
    next_stall: int | None = None  # send so many bytes of content, set `stalled`, and send no more
    answer: int | None = None  # this status to everything
    next_answers: list[int] = field(default_factory=list)  # these statuses to the next requests, with Retry-After: 3
    next_content_answers: list[int] = field(default_factory=list)  # likewise, to the next requests for content
    page: bytes | None = None  # this web page to everything
    loops: bool = False  # send every request back to where it came from
    bare: bool = False  # leave out what makes a hub of a web server
    other_size: int | None = None  # announce this size, and send what there is
    other_sha256: str | None = None  # announce this sha256
    stalled: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        hub: HubServer = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def content_requests(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET" and request.path.startswith("/cdn/")]


class _Handler(BaseHTTPRequestHandler):
    server_hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self) -> None:
        hub = self.server_hub
        hub.requests.append(
            Request(self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        )
        if hub.answer is not None:
            self._empty(hub.answer)
        elif hub.loops:
            self._empty(302, {"Location": self.path})
        elif hub.page is not None:
            self._send(hub.page, "text/html")
        elif hub.next_answers and self.path != "/api/agent-harnesses":  # which the library asks for once
            self._empty(hub.next_answers.pop(0), {"Retry-After": "3"})
        elif hub.next_content_answers and self.path.startswith("/cdn/"):
            self._empty(hub.next_content_answers.pop(0), {"Retry-After": "3"})
        elif self.path.startswith("/cdn/"):
            self._content(hub.files[self.path.removeprefix("/cdn/")])
        elif self.path.startswith("/api/models/"):
            self._describe()
        else:
            self._resolve()

    def _describe(self) -> None:
        hub = self.server_hub
        repo, kind = re.split("/(revision|tree)/", self.path.removeprefix("/api/models/"))[:2]
        if repo != hub.repo:
            self._empty(401, {"X-Error-Code": "RepoNotFound"})
        elif kind == "revision":
            self._json({"id": repo, "sha": COMMIT})
        else:
            oids = {name: hashlib.sha1(content).hexdigest() for name, content in hub.files.items()}
            sizes = {name: len(content) for name, content in hub.files.items()}
            self._json([{"type": "file", "path": name, "size": sizes[name], "oid": oids[name]} for name in hub.files])

    def _json(self, answer: object) -> None:
        self._send(json.dumps(answer).encode(), "application/json")

    def _send(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _resolve(self) -> None:
        hub = self.server_hub
        repo, _, rest = self.path.removeprefix("/datasets/").removeprefix("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo != hub.repo:
            self._empty(401, {"X-Error-Code": "RepoNotFound"})  # the real hub's answer to people without a token
        elif revision not in ("main", COMMIT):
            self._empty(404, {"X-Error-Code": "RevisionNotFound"})
        elif name not in hub.files:
            self._empty(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        elif hub.bare:
            self._empty(200)
        else:
            content = hub.files[name]
            sha256 = hub.other_sha256 or hashlib.sha256(content).hexdigest()
            size = len(content) if hub.other_size is None else hub.other_size
            headers = {
                "X-Repo-Commit": COMMIT,
                "X-Linked-Size": str(size),
                "X-Linked-ETag": f'"{sha256}"',
                "Location": f"http://localhost:{hub.port}/cdn/{name}",
            }
            self._empty(302, headers)

    def _content(self, content: bytes) -> None:
        hub = self.server_hub
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= len(content):
            self._empty(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        cut, hub.next_cut = hub.next_cut, None
        stall, hub.next_stall = hub.next_stall, None
        limit = cut if cut is not None else stall
        self.wfile.write(content[start:] if limit is None else content[start : start + limit])
        if stall is not None:
            hub.stalled.set()
            hub.released.wait(STALL_SECONDS)
        self.close_connection = limit is not None

    def _empty(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
