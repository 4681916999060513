"""What a team shares, on this machine: PostgreSQL, an S3 server for tests, and the MLflow server of mlflow/server/."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import boto3
from moto.server import ThreadedMotoServer

from tests.conftest import ROOT
from tests.debian import install

BUCKET = "team"
ADMIN = ("admin", "correct horse battery")
OWNER = "postgres"  # PostgreSQL refuses to run as root


def why_not() -> str:
    """Why there can be no PostgreSQL here; empty once it is installed."""
    if os.geteuid():
        return "only root can start a PostgreSQL of another user"
    if not programs() and (reason := install("postgresql")):
        return reason
    return "" if programs() else "PostgreSQL is installed in an unknown place"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs, as Debian installs them."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), default=None)


@contextmanager
def postgresql() -> Iterator[dict[str, str]]:
    """A PostgreSQL with an empty database mlflow: the variables by which libpq finds it."""
    folder = programs()
    assert folder is not None
    port = str(free_port())
    with tempfile.TemporaryDirectory(prefix="groundup-postgresql-") as name:
        shutil.chown(name, OWNER)
        password = Path(name) / "password"
        password.write_text("a secret\n", encoding="utf-8")
        shutil.chown(password, OWNER)
        data = f"{name}/data"

        def run(program: str, *arguments: str) -> None:
            subprocess.run([folder / program, *arguments], user=OWNER, cwd=name, capture_output=True, check=True)

        users = ("--username=mlflow", f"--pwfile={password}", "--auth=scram-sha-256")
        run("initdb", "--pgdata", data, "--no-sync", *users)
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        run("pg_ctl", "start", "--wait", "--pgdata", data, "--log", f"{name}/log", "--options", options)
        found = {"PGHOST": "127.0.0.1", "PGPORT": port, "PGUSER": "mlflow", "PGPASSWORD": "a secret"}
        try:
            subprocess.run([folder / "createdb", "mlflow"], env=os.environ | found, check=True)
            yield found
        finally:
            run("pg_ctl", "stop", "--pgdata", data, "--mode=immediate")


@contextmanager
def s3() -> Iterator[dict[str, str]]:
    """An S3 server with one empty bucket: the variables by which clients find it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key", aws_secret_access_key="secret"
    )
    client.create_bucket(Bucket=BUCKET)
    yield {**keys, "AWS_ENDPOINT_URL": url, "MLFLOW_S3_ENDPOINT_URL": url}
    server.stop()


class Team:
    """Its MLflow server can be killed and started again."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.port = str(free_port())
        self.uri = f"http://localhost:{self.port}"
        self.settings = settings
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """By start.sh, with the variables of server.env."""
        own = {
            "ARTIFACTS": f"s3://{BUCKET}/mlflow",
            "HOST": "127.0.0.1",
            "PORT": self.port,
            "ALLOWED_HOSTS": f"localhost,localhost:{self.port}",
            "WORKERS": "1",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [ROOT / "mlflow/server/start.sh"],
                env=os.environ | self.settings | own,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text(encoding="utf-8")[-3000:]
        try:
            with urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)  # of the session that it leads
            self._process.wait()
            self._process = None

    def user(self, name: str, password: str) -> dict[str, str]:
        """The variables with which a user works: the server's address, the credentials, and the bucket."""
        keys = {name: value for name, value in self.settings.items() if name.startswith("AWS_")}
        credentials = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
        return {**keys, **credentials, "MLFLOW_TRACKING_URI": self.uri}

    def add_user(self, name: str, *options: str) -> dict[str, str]:
        """By add_user.py, which asks for the password; the variables with which that user works."""
        password = f"password of {name}"
        subprocess.run(
            [sys.executable, ROOT / "mlflow/server/add_user.py", name, *options],
            env=os.environ | self.user(*ADMIN),
            input=f"{password}\n",
            text=True,
            check=True,
            timeout=120,
            start_new_session=True,  # no terminal, which it would ask
        )
        return self.user(name, password)


@contextmanager
def team(folder: Path) -> Iterator[Team]:
    with postgresql() as database, s3() as bucket:
        found = Team(folder, database | bucket)
        found.start()
        try:
            yield found
        finally:
            found.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
