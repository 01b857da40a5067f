#!/bin/bash
# The migration job: tables of Airflow (with FAB's users and roles), tables, roles and logins of medbill, the roles of
# roles.yml, the first administrator. Running it again changes nothing.
set -euo pipefail
airflow db migrate
medbill stack migrate
python -m medbill_plugin.roles
airflow users create --role Admin --username "$ADMIN_USER" --password "$ADMIN_PASSWORD" --email "$ADMIN_EMAIL" \
  --firstname Airflow --lastname Administrator
