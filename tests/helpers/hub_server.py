"""A small server that speaks the hub's HTTP interface, for tests of what is downloaded from it."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
Repositories = Mapping[str, Mapping[str, bytes]]  # "models/owner/name" or "datasets/owner/name" → file → content


@contextmanager
def hub(repositories: Repositories) -> Iterator[tuple[str, list[str]]]:
    """Serve ``repositories``; yields the address and the paths of the files that were fetched so far."""
    fetched: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def answer(self, body: bool) -> None:
            path = unquote(self.path.split("?")[0]).strip("/")
            if path.startswith("api/"):
                return self.listing(path.removeprefix("api/"))
            repository, _, rest = path.partition("/resolve/")
            if not repository.startswith("datasets/"):
                repository = f"models/{repository}"
            files = repositories.get(repository, {})
            name = next((name for name in files if rest.endswith(f"/{name}")), None)
            if name is None:
                return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            digest = hashlib.sha256(files[name]).hexdigest()
            if body:
                fetched.append(f"{repository}/{name}")
            self.reply(200, files[name], {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}, body)
            return None

        def listing(self, path: str) -> None:
            repository = "/".join(path.split("/")[:3])
            files = repositories.get(repository)
            if files is None:
                return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            if "/tree/" in path:
                answer: object = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            else:
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                answer = {"id": repository.partition("/")[2], "sha": COMMIT, "siblings": siblings}
            self.reply(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})
            return None

        def reply(self, status: int, content: bytes, headers: Mapping[str, str], body: bool = True) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", fetched
        server.shutdown()
