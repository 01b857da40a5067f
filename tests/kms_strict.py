"""AWS KMS for tests: moto on loopback, and in front of it a proxy that refuses where AWS does and moto does not.

moto 5.2.5 still uses keys that are disabled or pending deletion, ignores ReEncrypt's SourceKeyId, and answers a Decrypt that
names another key with AccessDenied (AWS: IncorrectKey). The rules are those of the KMS API reference, "Key states of AWS KMS
keys". Loaded with runpy, as the other helpers here.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

REGION = "us-east-1"
_SOURCE = {"Decrypt": "KeyId", "ReEncrypt": "SourceKeyId"}
_TARGET = {"GenerateDataKey": "KeyId", "Encrypt": "KeyId", "ReEncrypt": "DestinationKeyId"}


def _id(arn: str) -> str:
    return arn.rpartition("/")[2]


class Kms:
    """The pair. url: of the strict proxy; admin: a boto3 client of moto itself.

    refuse: an AWS error code with which every use of a key is refused. down: connections are closed unanswered. calls: the
    operations asked for, in order. stubborn: the first this many uses are throttled. denied: operations not allowed.
    """

    def __init__(self, moto: tuple[str, int]) -> None:
        self._moto = moto
        self.admin = boto3.session.Session("test", "test").client(
            "kms", region_name=REGION, endpoint_url="http://{}:{}".format(*moto)
        )
        self.refuse: str | None = None
        self.down = False
        self.stubborn = 0
        self.denied: set[str] = set()
        self.calls: list[str] = []
        self.url = ""

    def reset(self) -> None:
        self.refuse, self.down, self.stubborn, self.denied, self.calls = None, False, 0, set(), []

    def key(self) -> str:
        """A new key's ARN."""
        return str(self.admin.create_key()["KeyMetadata"]["Arn"])

    # moto knows a key here by its id alone
    def disable(self, arn: str) -> None:
        self.admin.disable_key(KeyId=_id(arn))

    def enable(self, arn: str) -> None:
        self.admin.enable_key(KeyId=_id(arn))

    def condemn(self, arn: str) -> None:
        """Schedule the deletion of a key."""
        self.admin.schedule_key_deletion(KeyId=_id(arn), PendingWindowInDays=7)

    def spare(self, arn: str) -> None:
        """Take it back; as at AWS, the key is disabled then."""
        self.admin.cancel_key_deletion(KeyId=_id(arn))

    def refusal(self, operation: str, body: dict[str, Any]) -> tuple[int, str] | None:
        """Status and code with which AWS would refuse this request."""
        if operation not in {*_SOURCE, *_TARGET}:
            return None
        if self.stubborn:
            self.stubborn -= 1
            return 400, "ThrottlingException"
        if operation in self.denied:
            return 400, "AccessDeniedException"
        if self.refuse:
            return (500 if self.refuse == "KMSInternalException" else 400), self.refuse
        used = []
        if operation in _SOURCE:
            wrapping = base64.b64decode(body["CiphertextBlob"])[:36].decode("ascii", "replace")
            named = body.get(_SOURCE[operation])
            try:
                wrapping = self.admin.describe_key(KeyId=wrapping)["KeyMetadata"]["KeyId"]
                # tag of 128 bits and nonce of 96 follow the id; shorter blobs crash moto
                if len(base64.b64decode(body["CiphertextBlob"])) < 36 + 28 + 32:
                    return 400, "InvalidCiphertextException"
            except self.admin.exceptions.ClientError:
                return 400, "InvalidCiphertextException"
            if named is not None:
                found = self._state(named)
                if found is None:
                    return 400, "NotFoundException"
                if found[0] != wrapping:
                    return 400, "IncorrectKeyException"
            used.append(wrapping)
        if operation in _TARGET:
            used.append(body[_TARGET[operation]])
        for key in used:
            found = self._state(key)
            if found is None:
                return 400, "NotFoundException"
            if found[1] == "Disabled":
                return 400, "DisabledException"
            if found[1] != "Enabled":
                return 400, "KMSInvalidStateException"
        return None

    def _state(self, key: str) -> tuple[str, str] | None:
        try:
            about = self.admin.describe_key(KeyId=key)["KeyMetadata"]
        except self.admin.exceptions.ClientError:
            return None
        return about["KeyId"], about["KeyState"]

    def forward(self, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        connection = HTTPConnection(*self._moto, timeout=30)
        try:
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


@contextmanager
def serve() -> Iterator[Kms]:
    """Both servers, on free ports of loopback."""
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    kms = Kms(moto.get_host_and_port())

    class Strict(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            kms.calls.append(operation)
            if kms.down:
                self.close_connection = True
                return
            refused = kms.refusal(operation, json.loads(body))
            if refused:
                status, answer = refused[0], json.dumps({"__type": refused[1], "message": "refused"}).encode()
            else:
                kept = ("Authorization", "Content-Type", "X-Amz-Date", "X-Amz-Target")
                status, answer = kms.forward({name: self.headers[name] for name in kept if self.headers[name]}, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Strict)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    kms.url = f"http://127.0.0.1:{proxy.server_port}"
    try:
        yield kms
    finally:
        proxy.shutdown()
        proxy.server_close()
        moto.stop()
