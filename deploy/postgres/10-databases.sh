#!/bin/bash
# Runs once, when the volume is empty: a role and a database each for Airflow and for medbill, neither a superuser.
set -euo pipefail
for name in airflow medbill; do
  variable="${name^^}_DB_PASSWORD"
  psql -v ON_ERROR_STOP=1 -v name="$name" -v password="${!variable}" -U "$POSTGRES_USER" -d postgres <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name" TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8' LOCALE 'C';
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
