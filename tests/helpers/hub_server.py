"""A small server that speaks the hub's HTTP interface, for tests of what is downloaded from it."""

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of every branch
CONVERTED, REQUEST = "89abcdef" * 5, "refs/pr/7"  # a pull request's head, and its name
Repositories = Mapping[str, Mapping[str, bytes]]  # "models/owner/name" or "datasets/owner/name" → file → content


@dataclass(frozen=True)
class PullRequest:
    """An open pull request, by the hub's converter if nothing else is said: the commit it is on, and what it adds."""

    parent: str
    files: Mapping[str, bytes]
    author: str = "SFconvertbot"
    title: str = "Adding `safetensors` variant of this model"


@contextmanager
def hub(
    repositories: Repositories, requests: Mapping[str, PullRequest] | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve ``repositories``, whatever commit of them is asked for; ``requests``: of some of them, by the same names.

    Yields the address and the paths of the files that were fetched so far.
    """
    fetched: list[str] = []
    opened = dict(requests or {})

    def at(repository: str, revision: str) -> tuple[str, Mapping[str, bytes]]:
        """The commit of a revision, and its files."""
        files = repositories.get(repository, {})
        if revision in (REQUEST, CONVERTED):
            return CONVERTED, {**files, **opened[repository].files}
        return (revision if re.fullmatch("[0-9a-f]{40}", revision) else COMMIT), files

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
            revision = REQUEST if rest.startswith(REQUEST) else rest.partition("/")[0]
            commit, files = at(repository, revision)
            name = next((name for name in files if rest.endswith(f"/{name}")), None)
            if name is None:
                return self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
            digest = hashlib.sha256(files[name]).hexdigest()
            if body:
                fetched.append(f"{repository}/{name}")
            self.reply(200, files[name], {"ETag": f'"{digest}"', "X-Repo-Commit": commit}, body)
            return None

        def listing(self, path: str) -> None:
            repository = "/".join(path.split("/")[:3])
            if repository not in repositories:
                return self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
            what, _, revision = path.removeprefix(repository).strip("/").partition("/")
            commit, files = at(repository, revision)
            request = opened.get(repository)
            if what == "discussions":
                made = {"createdAt": "2024-01-01T00:00:00.000Z", "repo": {"name": repository, "type": "model"}}
                one = {"num": 7, "status": "open", "isPullRequest": True, **made}
                found = [] if request is None else [{**one, "title": request.title, "author": {"name": request.author}}]
                answer: object = {"count": len(found), "start": 0, "discussions": found}
            elif what == "commits":
                commits = [CONVERTED, request.parent] if request and revision == REQUEST else [commit]
                said = {"authors": [], "date": "2024-01-01T00:00:00.000Z", "title": "", "message": ""}
                answer = [{"id": one, **said} for one in commits]
            elif what == "tree":
                answer = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
            else:
                siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
                answer = {"id": repository.partition("/")[2], "sha": commit, "siblings": siblings}
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
