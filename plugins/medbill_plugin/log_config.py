"""`[logging] logging_config_class`: Airflow's own logging, with the net of medbill_plugin.log_net behind it."""

from __future__ import annotations

from copy import deepcopy

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG
from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from medbill_plugin import log_net

if conf.getboolean("logging", "remote_logging"):
    raise AirflowConfigException("remote_logging would take task logs past medbill's log net; leave it off")

LOGGING_CONFIG = deepcopy(DEFAULT_LOGGING_CONFIG)
LOGGING_CONFIG["filters"]["net"] = {"()": log_net.NetFilter}
for _handler in LOGGING_CONFIG["handlers"].values():
    _handler["filters"] = [*_handler.get("filters", []), "net"]

#: Read by Airflow beside LOGGING_CONFIG.
REMOTE_TASK_LOG = log_net.TaskLog()
DEFAULT_REMOTE_CONN_ID = None
