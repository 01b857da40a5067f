"""The embedded stack of `make run`: real PostgreSQL, Airflow and the sandbox on one machine, supervised.

Airflow is started as a program and spoken to over its REST API; nothing here imports it.
"""
