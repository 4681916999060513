"""Check the tracking URI before a stage trains, without importing MLflow, which takes seconds."""

import base64
import configparser
import http.client
import json
import os
import re
import sqlite3
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from groundup.runner.environment import (
    TRACKING_BY_PLUGIN,
    TRACKING_PASSWORD,
    TRACKING_TOKEN,
    TRACKING_URI,
    TRACKING_USERNAME,
    main_root,
    tracking_store,
)
from groundup.runner.redact import redact, without_userinfo

EXPERIMENT = "groundup"
CHECK_SECONDS = 2.0
MAX_ANSWER = 1 << 20
PLUGINS = "mlflow.tracking_store"
DATABASES = ("postgresql", "mysql", "mssql")
EXAMPLES = "sqlite:////absolute/path/mlflow.db, http://HOST:PORT or https://HOST"


class TrackingError(ValueError):
    """The tracking URI is wrong: waiting would not help."""


def check_store(root: Path, *, to_write: bool) -> str | None:
    """Raises TrackingError if the tracking URI is wrong. Returns why the store takes no runs now; None if it does.

    to_write: also raise if the user may only read there.
    """
    uri, _ = tracking_store(root)
    if not os.environ.get(TRACKING_URI):
        (main_root(root) / "mlflow").mkdir(exist_ok=True)
    if re.match(r"[\w.-]+:\d+(/|$)", uri):
        raise _wrong(uri, f"has no scheme: a server needs one, as in http://{uri}")
    scheme = uri.partition(":")[0].partition("+")[0].lower()
    if scheme in ("http", "https"):
        return _check_server(uri, to_write=to_write)
    if scheme == "sqlite":
        return _check_sqlite(uri)
    if scheme in (*DATABASES, "databricks", *(plugin.name for plugin in entry_points(group=PLUGINS))):
        return None
    if scheme == "file" or ":" not in uri:
        raise _wrong(
            uri,
            "is a folder, and MLflow no longer keeps runs in folders: use sqlite:////absolute/path/mlflow.db "
            "(`mlflow migrate-filestore` brings the old runs over)",
        )
    raise _wrong(uri, f"has the scheme {scheme}, which MLflow does not know: use {EXAMPLES}")


def _wrong(uri: str, what: str) -> TrackingError:
    return TrackingError(f"{TRACKING_URI}={redact(uri)} {what}; or unset it to keep runs in mlflow/mlflow.db")


def _check_sqlite(uri: str) -> str | None:
    location = urlsplit(uri)
    path = Path(location.path[1:])
    if location.netloc or not path.is_absolute():
        raise _wrong(uri, "names no file: write sqlite:/// and an absolute path, four slashes in all")
    if not path.parent.is_dir():
        raise _wrong(uri, f"lies in a folder that does not exist: create it (`mkdir -p {path.parent}`) or correct it")
    if not os.access(path.parent, os.W_OK) or (path.exists() and not os.access(path, os.R_OK | os.W_OK)):
        raise _wrong(uri, f"cannot be written by this user: correct it, or the permissions of {path.parent}")
    if not path.exists():
        return None
    try:
        with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2) as store:
            rows = store.execute(
                "select experiment_id, lifecycle_stage from experiments where name = ?", (EXPERIMENT,)
            ).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # MLflow will make them
            return None
        if path.is_dir():
            raise _wrong(uri, "is a folder: name a file in it, as in sqlite:////absolute/path/mlflow.db") from None
        return str(error)
    except sqlite3.DatabaseError:
        raise _wrong(uri, "is not an SQLite database: name another file") from None
    return deleted_experiment(uri, str(rows[0][0])) if rows and rows[0][1] == "deleted" else None


def deleted_experiment(uri: str, experiment_id: str) -> str:
    return (
        f"its experiment {EXPERIMENT} was deleted: "
        f"`{TRACKING_URI}={redact(uri)} mlflow experiments restore --experiment-id {experiment_id}` brings it back"
    )


class KeepMethod(HTTPRedirectHandler):
    """Follow only 307 and 308: MLflow sends POST requests, which other redirects turn into GET."""

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        return super().http_error_302(req, fp, code, msg, headers) if code in (307, 308) else None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _check_server(uri: str, *, to_write: bool) -> str | None:
    """Request the experiment: this succeeds only on an MLflow server that accepts this user."""
    try:
        if not urlsplit(uri).hostname:
            raise _wrong(uri, f"names no host: use {EXAMPLES}")
        _ = urlsplit(uri).port
    except ValueError as error:
        raise error if isinstance(error, TrackingError) else _wrong(uri, f"is not a URL ({error}): fix it") from None
    if any(os.environ.get(name) for name in TRACKING_BY_PLUGIN):
        return None
    try:
        answer = _ask(uri, f"experiments/get-by-name?{urlencode({'experiment_name': EXPERIMENT})}")
        problem, experiment_id = _judge(uri, answer)
        if to_write and experiment_id is not None and _is_refused_to_write(uri, experiment_id):
            raise _wrong(
                uri,
                f"answers 403: this user may read the experiment {EXPERIMENT} there, but not write runs; ask for that "
                "right, or use another user",
            )
        return problem
    except URLError as error:
        if "WRONG_VERSION_NUMBER" in str(error.reason) or "record layer failure" in str(error.reason):
            raise _wrong(uri, "does not use TLS: write http:// in place of https://") from None
        return redact(str(error.reason))
    except OSError as error:
        return redact(str(error) or type(error).__name__)
    except (http.client.BadStatusLine, http.client.InvalidURL) as error:
        raise _wrong(uri, f"is not an MLflow server ({redact(str(error))}): correct the address") from None
    except http.client.HTTPException as error:
        return redact(str(error) or type(error).__name__)


class Answer(NamedTuple):
    status: int
    body: bytes
    location: str  # of a redirect that was not followed


def _ask(uri: str, what: str, body: dict[str, Any] | None = None) -> Answer:
    """Of MLflow's REST API, as the user who runs the stage; a POST if there is a body."""
    data = None if body is None else json.dumps(body).encode()
    address = f"{without_userinfo(uri).rstrip('/')}/api/2.0/mlflow/{what}"
    request = Request(address, data, {"Content-Type": "application/json"} if data else {})
    if credentials := _credentials(uri):
        request.add_unredirected_header("Authorization", credentials)
    try:
        with build_opener(KeepMethod).open(request, timeout=CHECK_SECONDS) as answer:
            return Answer(answer.status, answer.read(MAX_ANSWER), "")
    except HTTPError as error:
        return Answer(error.code, error.read(MAX_ANSWER), error.headers.get("Location", ""))


def _is_refused_to_write(uri: str, experiment_id: str) -> bool:
    """The server looks at the right to create a run before it finds that this one cannot be made."""
    return _ask(uri, "runs/create", {"experiment_id": experiment_id, "start_time": "never"}).status == 403


def _credentials(uri: str) -> str | None:
    """The Authorization that MLflow would send: from the URI, the environment, or ~/.mlflow/credentials."""
    parts = urlsplit(uri)
    if parts.username is not None:
        return _basic(unquote(parts.username), unquote(parts.password or ""))
    stored = configparser.ConfigParser(interpolation=None)
    stored.read(Path.home() / ".mlflow/credentials", encoding="utf-8")
    user, password = (
        os.environ.get(name) or stored.get("mlflow", name.lower(), fallback=None)
        for name in (TRACKING_USERNAME, TRACKING_PASSWORD)
    )
    if user and password:
        return _basic(user, password)
    token = os.environ.get(TRACKING_TOKEN)
    return f"Bearer {token}" if token else None


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _judge(uri: str, answer: Answer) -> tuple[str | None, str | None]:
    """(why the store takes no runs now, id of the experiment that takes them): neither, if there is none yet."""
    status, body, location = answer
    if status >= 500 or status in (408, 429):
        return f"it answers {status} {http.client.responses.get(status, '')}".rstrip(), None
    if status == 401:
        raise _wrong(
            uri,
            f"answers 401: set {TRACKING_USERNAME} and {TRACKING_PASSWORD}, or {TRACKING_TOKEN}, to credentials that "
            "it takes",
        )
    if status == 403 and b"Invalid Host header" in body:
        raise _wrong(uri, "answers 403: start that server with --allowed-hosts naming the host as it is written here")
    if status == 403:
        raise _wrong(uri, f"answers 403: this user may not read the experiment {EXPERIMENT} there; ask for the right")
    if location:
        raise _wrong(uri, f"only redirects to {redact(location)}: use the address of the MLflow server itself")
    said = _json(body)
    if status == 404 and said.get("error_code") == "RESOURCE_DOES_NOT_EXIST":
        return None, None  # the first run makes it
    if status != 200 or not isinstance(said.get("experiment"), dict):
        raise _wrong(uri, f"is not an MLflow server (it answers {status}): correct host, port and path")
    experiment = said["experiment"]
    if experiment["lifecycle_stage"] == "deleted":
        return deleted_experiment(uri, experiment["experiment_id"]), None
    return None, experiment["experiment_id"]


def _json(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
