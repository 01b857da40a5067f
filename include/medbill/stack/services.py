"""The long-running programs of the stack, in the order they start."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from medbill.stack.files import Home
from medbill.stack.ports import HOST, Ports


@dataclass(frozen=True)
class Service:
    name: str
    command: tuple[str, ...]


def services(home: Home, ports: Ports) -> list[Service]:
    def medbill(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "medbill.cli", *arguments)

    def airflow(*arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "airflow", *arguments)

    return [
        Service(
            "sandbox",
            medbill(
                *("sandbox", "serve", "--state", str(home.sandbox)),
                *("--port", str(ports.sandbox), "--tebra-port", str(ports.tebra)),
                *("--advancedmd-port", str(ports.advancedmd), "--carecloud-port", str(ports.carecloud)),
            ),
        ),
        Service("api-server", airflow("api-server", "--host", HOST, "--port", str(ports.api), "--workers", "1")),
        Service("scheduler", airflow("scheduler")),
        Service("dag-processor", airflow("dag-processor")),
        Service("triggerer", airflow("triggerer")),
    ]
