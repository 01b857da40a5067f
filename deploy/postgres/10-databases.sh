#!/bin/bash
# Runs once, when the volume is empty: a database each for Airflow and for medbill, and an owner of each, neither a
# superuser. medbill's owner makes the roles that medbill runs as (`medbill stack migrate`), which own nothing.
set -euo pipefail
make() {
  psql -v ON_ERROR_STOP=1 -v database="$1" -v owner="$2" -v password="$3" -U "$POSTGRES_USER" -d postgres <<SQL
CREATE ROLE :"owner" LOGIN $4 PASSWORD :'password';
CREATE DATABASE :"database" OWNER :"owner" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C';
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
SQL
}
make airflow airflow "$AIRFLOW_DB_PASSWORD" ""
make medbill medbill_admin "$MEDBILL_ADMIN_DB_PASSWORD" CREATEROLE
