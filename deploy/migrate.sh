#!/bin/bash
# The migration job: tables of Airflow (with FAB's users and roles) and of medbill, the roles, the first administrator.
# Running it again changes nothing.
set -euo pipefail
airflow db migrate
medbill stack migrate
airflow roles create "Billing Manager" "AR Specialist" Coder "Compliance Officer" Supervisor "Data Engineer" Analyst
# everybody sees pipelines and their logs; who may decide on a proposal is medbill's own business, not Airflow's
airflow roles add-perms "Billing Manager" "AR Specialist" Coder "Compliance Officer" Supervisor "Data Engineer" Analyst \
  --resource DAGs "DAG Runs" "Task Instances" "Task Logs" Assets Website --action can_read
airflow roles add-perms "Data Engineer" --resource DAGs "DAG Runs" "Task Instances" --action can_edit can_create
airflow users create --role Admin --username "$ADMIN_USER" --password "$ADMIN_PASSWORD" --email "$ADMIN_EMAIL" \
  --firstname Airflow --lastname Administrator
