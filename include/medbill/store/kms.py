"""AWS KMS as the key service: data keys are made and wrapped there, the master key never leaves it.

Region, credentials and endpoint are boto3's own settings (AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL_KMS, instance roles …).
The encryption context (practice, purpose, version of the data key; nothing of a patient) stands in CloudTrail in the clear.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlsplit

from medbill.errors import KeyUnavailable, PolicyError, TamperedData
from medbill.store.keys import KMS_MAGIC, LOCAL_MAGIC, OTHER_KEY, DataKey

_T = TypeVar("_T")
_SCHEME = "kms://"
_KEY = re.compile(r"(arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:(key|alias)/|alias/)?[A-Za-z0-9][A-Za-z0-9/_-]{0,255}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d{1,2}")
_LARGEST = 6144  # bytes of a ciphertext, KMS Decrypt's limit
# At most 3 x (3 + 5) seconds and the pauses between: a task must not hang on a key service that is away.
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 3, 5, 3
#: Loggers that write whole requests and answers, plaintext data keys among them, at level DEBUG.
_LOUD = ("botocore.endpoint", "botocore.parsers", "botocore.auth", "botocore.httpsession", "botocore.hooks")


class _OtherKey(KeyUnavailable):
    """Wrapped under another KMS key than the one named."""


def parse(url: str) -> KmsKeys:
    """The key service of "kms://<key id, ARN or alias/name>?region=…&former=<key>".

    former, any number of times: keys that wrapped before and may still unwrap, until a rewrap has moved all data keys.
    Raises PolicyError where the text is something else.
    """
    key, _, query = url.removeprefix(_SCHEME).partition("?")
    try:
        options = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        options = [("", "")]
    former = [value for name, value in options if name == "former"]
    regions = [value for name, value in options if name == "region"]
    if (
        not url.startswith(_SCHEME)
        or not all(_KEY.fullmatch(one) for one in (key, *former))
        or not all(_REGION.fullmatch(region) for region in regions)
        or len(regions) > 1
        or len(regions) + len(former) != len(options)
    ):
        raise PolicyError("MEDBILL_KEYRING must be a file, or kms://<key id, ARN or alias/name>?region=<region>")
    return KmsKeys(key, region=regions[0] if regions else None, former=former)


class KmsKeys:
    """Data keys under one symmetric KMS key, which must exist: this program never makes or alters KMS keys.

    key (afterwards current): id, ARN, or alias/name. region: of the key; the ARN's, else boto3's own. former: keys that may unwrap besides it;
    no other is ever tried, since whoever can write the table of data keys could else bring a key of his own.

    Raises KeyUnavailable with a code of its own for each cause: KEY_DISABLED, KEY_PENDING_DELETION, KEY_DENIED,
    KEY_NOT_FOUND, KEY_OTHER (wrapped under a key not named), KEY_SERVICE_UNREACHABLE, else KEY_UNAVAILABLE.
    """

    def __init__(self, key: str, *, region: str | None = None, former: Sequence[str] = ()) -> None:
        self.current = key
        self._keys = (key, *former)
        self._region = region or (key.split(":")[3] if key.startswith("arn:") else None)

    def data_key(self, context: Mapping[str, str], *, first: bool = False) -> DataKey:
        made = self._call("generate_data_key", KeyId=self.current, KeySpec="AES_256", EncryptionContext=dict(context))
        return DataKey(_checked(made["Plaintext"]), KMS_MAGIC + made["CiphertextBlob"], made["KeyId"])

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        blob = _blob(wrapped)
        return self._first(lambda key: self._decrypt(key, blob, context))

    def wrap(self, plaintext: bytes, context: Mapping[str, str]) -> DataKey:
        made = self._call("encrypt", KeyId=self.current, Plaintext=_checked(plaintext), EncryptionContext=dict(context))
        return self._proven(made, context)

    def rewrap(self, wrapped: bytes, context: Mapping[str, str]) -> DataKey:
        """The same data key under the configured KMS key and its newest key material, opened once before it is given."""
        blob = _blob(wrapped)
        moved = self._first(
            lambda key: self._call(
                "re_encrypt",
                CiphertextBlob=blob,
                SourceKeyId=key,
                SourceEncryptionContext=dict(context),
                DestinationKeyId=self.current,
                DestinationEncryptionContext=dict(context),
            )
        )
        return self._proven(moved, context)

    def _proven(self, made: Mapping[str, Any], context: Mapping[str, str]) -> DataKey:
        """A wrapped key, opened once: a role may be allowed to wrap and not to unwrap, and the older one is overwritten."""
        blob = made["CiphertextBlob"]
        return DataKey(self._decrypt(self.current, blob, context), KMS_MAGIC + blob, made["KeyId"])

    def _decrypt(self, key: str, blob: bytes, context: Mapping[str, str]) -> bytes:
        opened = self._call("decrypt", KeyId=key, CiphertextBlob=blob, EncryptionContext=dict(context))
        return _checked(opened["Plaintext"])

    def _first(self, use: Callable[[str], _T]) -> _T:
        """What use gives with the first of our keys that wrapped."""
        for key in self._keys[:-1]:
            try:
                return use(key)
            except _OtherKey:
                continue
        return use(self._keys[-1])

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
            return answer
        except ClientError as error:
            raise _refusal(error.response) from None
        except BotoCoreError as error:
            raise _unreachable(type(error).__name__) from None

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.INFO)
        config = Config(
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        )
        try:
            # a session of its own: making a client from the default one is not safe among threads
            client = boto3.session.Session().client("kms", region_name=self._region, config=config)
        except (BotoCoreError, ValueError) as error:
            raise _unreachable(type(error).__name__) from None
        address = urlsplit(client.meta.endpoint_url)
        if address.scheme != "https" and address.hostname not in ("127.0.0.1", "::1", "localhost"):
            raise KeyUnavailable(
                "KMS would be reached without TLS, and data keys cross that connection; set AWS_ENDPOINT_URL_KMS to an "
                "https address",
                code="KEY_SERVICE_UNREACHABLE",
            )
        return client


def _blob(wrapped: bytes) -> bytes:
    if wrapped.startswith(LOCAL_MAGIC):
        raise KeyUnavailable(
            "data is sealed under a local keyring, not under KMS; set MEDBILL_KEYRING to that file", code=OTHER_KEY
        )
    blob = wrapped.removeprefix(KMS_MAGIC)
    if len(blob) == len(wrapped) or not 0 < len(blob) <= _LARGEST:
        raise TamperedData("a wrapped data key is malformed; it was altered or truncated")
    return blob


def _checked(plaintext: bytes) -> bytes:
    if len(plaintext) != 32:
        raise TamperedData("a wrapped data key is not 256 bits long; it was not made for this")
    return plaintext


_DENIED = (
    "KEY_DENIED",
    "KMS denies the key to these credentials; check them, the IAM policy and the key policy (docs/operations.md)",
)
#: KMS's error codes (API reference: GenerateDataKey, Decrypt, ReEncrypt, common errors) -> our code and what to do.
_REFUSALS = {
    "DisabledException": ("KEY_DISABLED", "the KMS key is disabled; enable it, then run again"),
    "KMSInvalidStateException": (
        "KEY_PENDING_DELETION",
        "the KMS key is pending deletion or import, or else unusable; cancel the deletion before its window ends, then "
        "enable the key: what is sealed under it goes with it",
    ),
    "NotFoundException": (
        "KEY_NOT_FOUND",
        "KMS has no such key in this account and region; check key and region in MEDBILL_KEYRING",
    ),
    "InvalidKeyUsageException": (
        "KEY_UNAVAILABLE",
        "the KMS key does not encrypt; MEDBILL_KEYRING must name a symmetric encryption key",
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccessDeniedException",
            "ExpiredTokenException",
            "IncompleteSignature",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "NotAuthorized",
            "OptInRequired",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ),
        _DENIED,
    ),
}
_BUSY = {"ThrottlingException", "Throttling", "LimitExceededException", "DependencyTimeoutException"}


def _refusal(response: Mapping[str, Any]) -> KeyUnavailable | TamperedData:
    """KMS's refusal as ours. Its own message is left out: it quotes accounts, roles and keys."""
    code = str(response.get("Error", {}).get("Code", ""))
    if code == "InvalidCiphertextException":
        return TamperedData("KMS refused a wrapped data key; it was altered or belongs elsewhere")
    if code == "IncorrectKeyException":
        return _OtherKey(
            "data is sealed under another KMS key; set MEDBILL_KEYRING to that one, or name it as former= as well",
            code=OTHER_KEY,
        )
    if code in _REFUSALS:
        ours, what = _REFUSALS[code]
        return KeyUnavailable(what, code=ours)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _BUSY or status >= 500:
        return _unreachable("it is overloaded or failing")
    return KeyUnavailable("KMS refused the request; check that the key is a symmetric encryption key of this region")


def _unreachable(why: str) -> KeyUnavailable:
    return KeyUnavailable(
        f"KMS cannot be used now ({why}); check network, region and AWS credentials, then run again",
        code="KEY_SERVICE_UNREACHABLE",
    )
