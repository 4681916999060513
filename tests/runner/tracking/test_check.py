"""A wrong tracking URI is reported before training; an unreachable store is not an error."""

import base64
import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from groundup.runner.stage import _run
from groundup.runner.tracking.check import TrackingError, check_store
from tests.conftest import ROOT
from tests.presets import preset_text

EXPERIMENT = {"experiment": {"experiment_id": "7", "name": "groundup", "lifecycle_stage": "active"}}
DELETED = {"experiment": EXPERIMENT["experiment"] | {"lifecycle_stage": "deleted"}}
NEW = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "Could not find experiment with name 'groundup'"}


class Answer(BaseHTTPRequestHandler):
    """Answers by the first part of the path; /auth wants me:secret, /token wants a bearer."""

    answers = {  # noqa: RUF012
        "mlflow": (200, json.dumps(EXPERIMENT)),
        "reader": (200, json.dumps(EXPERIMENT)),
        "new": (404, json.dumps(NEW)),
        "deleted": (200, json.dumps(DELETED)),
        "html": (200, "<html>welcome</html>"),
        "list": (200, "[]"),
        "other": (200, '{"status": "ok"}'),
        "400": (400, "bad"),
        "401": (401, ""),
        "403": (403, ""),
        "host": (403, "Invalid Host header - possible DNS rebinding attack detected"),
        "404": (404, "not found"),
        "429": (429, ""),
        "500": (500, ""),
        "503": (503, ""),
    }

    def do_POST(self) -> None:
        """As MLflow answers a run that cannot be made, of a user who may write and of one who may not."""
        assert self.path.endswith("/api/2.0/mlflow/runs/create")
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body == {"experiment_id": "7", "start_time": "never"}
        self.send_response(403 if self.path.startswith("/reader") else 400)
        self.end_headers()

    def do_GET(self) -> None:
        assert self.path.split("?")[1] == "experiment_name=groundup"
        first = self.path.split("/")[1]
        wanted = {"auth": "Basic " + base64.b64encode(b"me:secret").decode(), "token": "Bearer tok-4711"}.get(first)
        if first in ("moved", "kept"):
            self.send_response(302 if first == "moved" else 307)
            user, rest = "me:secret@" if first == "moved" else "", self.path.split("/", 2)[2]
            self.send_header("Location", f"http://{user}{self.headers['Host']}/mlflow/{rest}")
            self.end_headers()
            return
        granted = 200 if self.headers.get("Authorization") == wanted else 401
        status, body = (granted, json.dumps(EXPERIMENT)) if wanted else self.answers[first]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")


def check(monkeypatch: pytest.MonkeyPatch, root: Path, uri: str, *, to_write: bool = True) -> str | None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return check_store(root, to_write=to_write)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "ftp://host/x",
            "has the scheme ftp, which MLflow does not know: use sqlite:////absolute/path/mlflow.db, http",
        ),
        ("htp://host", "has the scheme htp"),
        ("file:///tmp/mlruns", "is a folder, .*`mlflow migrate-filestore`"),
        ("./mlruns", "is a folder, and MLflow no longer keeps runs in folders: use sqlite:////absolute/path"),
        ("/tmp/mlruns", "is a folder"),
        ("localhost:5000", "has no scheme: a server needs one, as in http://localhost:5000"),
        ("127.0.0.1:5000", "has no scheme"),
        ("http://", "names no host"),
        ("http:///mlflow", "names no host"),
        ("http://host:port", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://ho st/", "is not an MLflow server|is not a URL"),
        ("sqlite://mlflow.db", "four slashes"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////nowhere/at/all/mlflow.db", "does not exist: create it .`mkdir -p /nowhere/at/all`"),
    ],
)
@pytest.mark.tried(
    "MLflow",
    "an address that cannot be right: the stage ends at once with the remedy",
)
def test_a_wrong_uri(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str, message: str) -> None:
    with pytest.raises(TrackingError, match=f"MLFLOW_TRACKING_URI={re.escape(uri)} .*({message}).* or unset it"):
        check(monkeypatch, tmp_path, uri)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("html", "is not an MLflow server .it answers 200.: correct host, port and path"),
        ("list", "is not an MLflow server"),
        ("other", "is not an MLflow server"),
        ("400", "is not an MLflow server .it answers 400"),
        ("401", "answers 401: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"),
        ("403", "answers 403: this user may not read the experiment groundup"),
        ("reader", "answers 403: this user may read the experiment groundup there, but not write runs; ask for that"),
        ("host", "answers 403: start that server with --allowed-hosts"),
        ("404", "is not an MLflow server .it answers 404"),
        ("auth", "answers 401"),
        ("moved", r"only redirects to http://\*\*\*@127.0.0.1"),
    ],
)
@pytest.mark.tried(
    "MLflow",
    "an address that cannot be right: the stage ends at once with the remedy",
)
def test_a_server_that_will_never_take_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, path: str, message: str
) -> None:
    with pytest.raises(TrackingError, match=message):
        check(monkeypatch, tmp_path, f"{server}/{path}")


def test_who_may_only_read_may_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> None:
    assert check(monkeypatch, tmp_path, f"{server}/reader", to_write=False) is None


@pytest.mark.parametrize("path", ["mlflow", "mlflow/", "new", "kept"])
def test_a_server_that_takes_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, path: str) -> None:
    assert check(monkeypatch, tmp_path, f"{server}/{path}") is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("500", "it answers 500 Internal Server Error"),
        ("503", "it answers 503 Service Unavailable"),
        ("429", "it answers 429 Too Many Requests"),
        ("deleted", "its experiment groundup was deleted: .* mlflow experiments restore --experiment-id 7"),
    ],
)
@pytest.mark.tried("MLflow", "a server that is away or cannot answer now: a warning, training continues")
def test_a_server_that_may_take_runs_later(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str, path: str, reason: str
) -> None:
    assert re.match(reason, check(monkeypatch, tmp_path, f"{server}/{path}") or "")


@pytest.mark.tried("MLflow", "a server that is away or cannot answer now: a warning, training continues")
def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert "refused" in (check(monkeypatch, tmp_path, "http://127.0.0.1:9") or "")
    assert check(monkeypatch, tmp_path, "http://no-such-host.invalid")


def test_a_server_that_does_not_answer_or_is_no_web_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("groundup.runner.tracking.check.CHECK_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert "timed out" in (check(monkeypatch, tmp_path, f"http://{address}") or "")

        def greet() -> None:
            for _ in range(2):
                connection, _ = listening.accept()
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.close()

        thread = threading.Thread(target=greet)  # the first connection is the one that timed out
        thread.start()
        with pytest.raises(TrackingError, match="is not an MLflow server"):
            check(monkeypatch, tmp_path, f"http://{address}")
        thread.join()


@pytest.mark.tried(
    "MLflow",
    "an address that cannot be right: the stage ends at once with the remedy",
)
def test_https_where_http_is_spoken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> None:
    with pytest.raises(TrackingError, match="does not use TLS: write http://"):
        check(monkeypatch, tmp_path, server.replace("http", "https"))


def test_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, server: str) -> None:
    with_user = server.replace("://", "://me:secret@") + "/auth"
    assert check(monkeypatch, tmp_path, with_user) is None
    (tmp_path / ".mlflow").mkdir()
    credentials = tmp_path / ".mlflow/credentials"
    credentials.write_text("[mlflow]\nmlflow_tracking_username = me\nmlflow_tracking_password = secret\n")
    assert check(monkeypatch, tmp_path, f"{server}/auth") is None
    credentials.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-4711")
    assert check(monkeypatch, tmp_path, f"{server}/token") is None
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert check(monkeypatch, tmp_path, f"{server}/auth") is None
    with pytest.raises(TrackingError) as error:
        check(monkeypatch, tmp_path, with_user.replace("auth", "token"))
    assert "secret" not in str(error.value)
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "plugin")  # only MLflow itself can check these
    assert check(monkeypatch, tmp_path, f"{server}/401") is None


def test_sqlite_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mlflow_store: str) -> None:
    assert check(monkeypatch, tmp_path, mlflow_store) is None
    assert check(monkeypatch, tmp_path, f"sqlite:///{tmp_path}/new.db") is None
    (tmp_path / "text.db").write_text("this is no database, however long one reads it. " * 40)
    with pytest.raises(TrackingError, match="is not an SQLite database: name another file"):
        check(monkeypatch, tmp_path, f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(TrackingError, match="is a folder: name a file in it"):
        check(monkeypatch, tmp_path, f"sqlite:///{tmp_path}")
    with sqlite3.connect(urlsplit(mlflow_store).path) as store:
        store.execute("update experiments set lifecycle_stage = 'deleted' where name = 'groundup'")
    reason = check(monkeypatch, tmp_path, mlflow_store) or ""
    assert "restore --experiment-id 1" in reason


def test_a_relative_sqlite_file_lies_in_the_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check(monkeypatch, tmp_path, "sqlite:///mlflow.db") is None
    with pytest.raises(TrackingError, match=f"mkdir -p {tmp_path}/runs"):
        check(monkeypatch, tmp_path, "sqlite:///runs/mlflow.db")


def test_without_a_uri_the_folder_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert check(monkeypatch, tmp_path, "") is None
    assert (tmp_path / "mlflow").is_dir()


@pytest.mark.parametrize("uri", ["postgresql://me:secret@db/mlflow", "mysql+pymysql://db/mlflow", "databricks"])
def test_what_only_mlflow_can_judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, uri: str) -> None:
    assert check(monkeypatch, tmp_path, uri) is None


def test_a_stage_fails_before_it_makes_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "src").symlink_to(ROOT / "src")
    (tmp_path / "dvc.yaml").write_text("stages: {prepare: {cmd: x, deps: [data], outs: [artifacts/text]}}")
    (tmp_path / "params.yaml").write_text(preset_text("smoke"), encoding="utf-8")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "ftp://host")
    with pytest.raises(TrackingError, match="has the scheme ftp"):
        _run(tmp_path, "prepare", lambda stage: {})
    assert not (tmp_path / ".work").exists()


def test_it_needs_no_mlflow(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom groundup.runner.tracking.check import check_store\n"
        "assert check_store(Path.cwd(), to_write=True) is None\n"
        "heavy = {'mlflow', 'torch', 'sqlalchemy'} & sys.modules.keys()\nassert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
