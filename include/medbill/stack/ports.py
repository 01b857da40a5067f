"""Loopback ports: the usual ones where free, others where taken, the same ones at the next start."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, fields

from medbill.stack.files import Home

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """api: Airflow's UI and API. sandbox, tebra, advancedmd, carecloud: the platforms' stand-ins.

    task_logs, trigger_logs: Airflow's own log servers.
    """

    api: int = 8080
    sandbox: int = 8090
    tebra: int = 8091
    advancedmd: int = 8092
    carecloud: int = 8093
    task_logs: int = 8793
    trigger_logs: int = 8794

    @staticmethod
    def remembered(home: Home) -> Ports:
        known = home.read("stack.json").get("ports", {})
        return Ports(**{f.name: int(known.get(f.name, f.default)) for f in fields(Ports)})

    @staticmethod
    def choose(home: Home) -> Ports:
        """Free ports for a stack that is not running; remembered in stack.json."""
        wanted = asdict(Ports.remembered(home))
        chosen: dict[str, int] = {}
        for name, port in wanted.items():
            chosen[name] = port if is_free(port) and port not in chosen.values() else _any_free()
        home.write("stack.json", {**home.read("stack.json"), "ports": chosen})
        return Ports(**chosen)


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _any_free() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
