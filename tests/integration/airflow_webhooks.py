"""Run by test_platforms_webhooks.py in a process of its own: Airflow's real API server with our plugin, on loopback.

Prints the port it listens on. Its asset `drchrono_events` is the one of dags/.
"""

from __future__ import annotations

import socket
import sys
from pathlib import Path


def main(dags: Path) -> None:
    import uvicorn
    from airflow.utils.db import initdb

    initdb()
    _sync(dags)
    from airflow.api_fastapi.app import cached_app

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        print(f"PORT {listener.getsockname()[1]}", flush=True)
        uvicorn.Server(uvicorn.Config(cached_app(), lifespan="off")).run([listener])


def _sync(dags: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(dags / "extract_drchrono.py", bundle_path=dags, bundle_name="dags-folder")
    assert not bag.import_errors, bag.import_errors
    sync_bag_to_db(bag, "dags-folder", None)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
