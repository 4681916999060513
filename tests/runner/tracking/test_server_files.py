"""The files of mlflow/server agree with each other and with the lock."""

import re

from ruamel.yaml import YAML

from tests.conftest import ROOT

FOLDER = ROOT / "mlflow/server"
VARIABLE = re.compile(r"\$\{?([A-Z_]+)")


def test_the_container_has_the_packages_of_the_lock() -> None:
    (line,) = re.findall(r"(?m)^RUN pip install .*$", (FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    pins = re.findall(r"([\w-]+)(?:\[\w+\])?(==\S+)", line)
    assert [name for name, _ in pins] == ["mlflow", "psycopg2-binary", "boto3"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert {f"{name}{version} \\" for name, version in pins} <= set(lock)


def test_every_variable_is_in_the_example() -> None:
    named = set(re.findall(r"(?m)^#? ?(\w+)=", (FOLDER / "server.env.example").read_text(encoding="utf-8")))
    used = {
        name
        for file in ("start.sh", "compose.yaml")
        for name in VARIABLE.findall((FOLDER / file).read_text(encoding="utf-8"))
    }
    assert used <= named
    assert {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD"} <= named


def test_the_containers_start_what_the_checkout_starts() -> None:
    services = YAML(typ="safe").load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert services["database"]["environment"]["POSTGRES_DB"] == "mlflow"
    assert services["mlflow"]["environment"] == {"PGHOST": "database", "PGPORT": 5432, "HOST": "0.0.0.0"}
    assert services["mlflow"]["ports"] == ["127.0.0.1:${PORT}:${PORT}"]  # only the proxy with TLS reaches it
    copied = re.search(r"COPY (.*) /server/", (FOLDER / "Dockerfile").read_text(encoding="utf-8"))
    assert copied is not None
    assert all((FOLDER / name).is_file() for name in copied[1].split())
    assert 'CMD ["/server/start.sh"]' in (FOLDER / "Dockerfile").read_text(encoding="utf-8")
