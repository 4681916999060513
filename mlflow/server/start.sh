#!/bin/sh
# The MLflow server of a team. Its settings are variables: server.env.example names them.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
export MLFLOW_AUTH_CONFIG_PATH="$here/basic_auth.ini" MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
exec mlflow server --app-name basic-auth --backend-store-uri postgresql+psycopg2:///mlflow \
    --artifacts-destination "$ARTIFACTS" --host "$HOST" --port "$PORT" --allowed-hosts "$ALLOWED_HOSTS" --workers "$WORKERS"
