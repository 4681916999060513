"""What a team shares, on this machine: PostgreSQL, an S3 server for tests, and the MLflow server of mlflow/server/."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from moto.server import ThreadedMotoServer

from tests.conftest import ROOT
from tests.debian import install
from tests.servers import Server, free_port

BUCKET = "team"
ADMIN = ("admin", "correct horse battery")
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


def why_not() -> str:
    """Why there can be no PostgreSQL here; empty once it is installed."""
    if programs() is None and os.geteuid():
        return "PostgreSQL is not installed, and only root can install it"
    if programs() is None and (reason := install("postgresql")):
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
    owner = None if os.geteuid() else "postgres"  # it refuses to run as root
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="groundup-postgresql-") as name:
        password = Path(name) / "password"
        password.write_text("a secret\n", encoding="utf-8")
        if owner:
            shutil.chown(name, owner)
            shutil.chown(password, owner)
        data = f"{name}/data"

        def run(program: str, *arguments: str) -> None:
            subprocess.run([folder / program, *arguments], user=owner, cwd=name, capture_output=True, check=True)

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
    try:
        url = "http://{}:{}".format(*server.get_host_and_port())
        id, secret, region = KEYS.values()
        boto3.client(
            "s3", endpoint_url=url, aws_access_key_id=id, aws_secret_access_key=secret, region_name=region
        ).create_bucket(Bucket=BUCKET)
        yield {**KEYS, "AWS_ENDPOINT_URL": url}
    finally:
        server.stop()


class Team:
    """The server, and the variables of those who use it."""

    def __init__(self, folder: Path, database: dict[str, str], bucket: dict[str, str]) -> None:
        port = free_port()
        self._bucket = bucket
        variables = {  # as in server.env
            **database,
            **bucket,
            "ARTIFACTS": f"s3://{BUCKET}/mlflow",
            "HOST": "127.0.0.1",
            "PORT": port,
            "ALLOWED_HOSTS": f"localhost,localhost:{port}",
            "WORKERS": "1",
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.server = Server(folder, f"http://localhost:{port}", [str(ROOT / "mlflow/server/start.sh")], variables)

    def user(self, name: str, password: str) -> dict[str, str]:
        """The variables with which a user works: the server's address, the credentials, and the bucket."""
        credentials = {"MLFLOW_TRACKING_USERNAME": name, "MLFLOW_TRACKING_PASSWORD": password}
        return {**self._bucket, **credentials, "MLFLOW_TRACKING_URI": self.server.uri}

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
        found = Team(folder, database, bucket)
        try:
            found.server.start()
            yield found
        finally:
            found.server.kill()
