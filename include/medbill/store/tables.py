"""PostgreSQL tables of medbill (schema `medbill`). The ledger's own tables are in schema `audit` (medbill.audit.tables)."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

metadata = sa.MetaData(schema="medbill")

_now = sa.text("clock_timestamp()")


def _created() -> sa.Column[object]:
    return sa.Column("created_at", TIMESTAMP(timezone=True), nullable=False, server_default=_now)


#: Every file ever seen in an inbox. name_index is a keyed hash: a file name may hold a patient's name.
inbox_files = sa.Table(
    "inbox_files",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("name_index", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),  # remittances
    sa.Column("day", sa.Date),  # partition: the interchange date, or the day of receipt where it has none
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # landed, quarantined, held
    sa.Column("reason_code", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("uri", sa.Text, nullable=False),  # sealed original
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),  # of the same name
    sa.Column("purged_at", TIMESTAMP(timezone=True)),  # the sealed original is gone (include/policies/retention.yml)
    _created(),
    sa.Index("inbox_files_name", "practice", "name_index"),
    sa.Index("inbox_files_day", "practice", "object", "day"),
)

#: Every payment of every landed file, in the order in which the files came. identity: keyed hash of payer and trace number;
#: content: keyed hash of what it pays. posted: its claims were handed to posting, so no other of its identity ever is.
payments = sa.Table(
    "payments",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("remittance_key", sa.Text, primary_key=True),
    sa.Column("sequence", sa.BigInteger, sa.Identity(always=True), nullable=False),
    sa.Column("file_sha256", sa.Text, nullable=False),
    sa.Column("identity", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("posted", sa.Boolean, nullable=False, server_default=sa.false()),
    _created(),
    sa.ForeignKeyConstraint(
        ["practice", "file_sha256"],
        ["medbill.inbox_files.practice", "medbill.inbox_files.sha256"],
        name="payments_file",
        ondelete="CASCADE",
    ),
    sa.Index("payments_identity", "practice", "identity"),
    sa.Index("payments_of_file", "practice", "file_sha256"),
)

#: One row per partition (practice x object x day): what is landed, what is published. Publishing is the update of this row.
partitions = sa.Table(
    "partitions",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("object", sa.Text, primary_key=True),  # remittances, claims
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("landed_version", sa.Text),  # hash of what is landed
    sa.Column("landed_uri", sa.Text),
    sa.Column("published_version", sa.Text),  # landed_version it was made from
    sa.Column("published_uri", sa.Text),
    sa.Column("content_hash", sa.Text),  # SHA-256 over the published files
    sa.Column("counts", JSONB, nullable=False, server_default="{}"),
    sa.Column("landed_at", TIMESTAMP(timezone=True)),
    sa.Column("published_at", TIMESTAMP(timezone=True)),
    sa.Column("landed_purged_at", TIMESTAMP(timezone=True)),  # what was landed is gone; what is published stays
)

#: Results of rules per partition (postings, denials): written whole, replaced whole, content-addressed.
results = sa.Table(
    "results",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),  # postings, denials, scrub
    sa.Column("day", sa.Date, primary_key=True),
    sa.Column("uri", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("counts", JSONB, nullable=False),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=_now),
)

#: Records and files a gate refused. The bytes are sealed at uri; reason never holds a value of the record.
quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # deterministic: practice, file, record, reason
    sa.Column("practice", sa.Text, nullable=False),
    sa.Column("object", sa.Text, nullable=False),
    sa.Column("day", sa.Date),
    sa.Column("level", sa.Text, nullable=False),  # file, transaction, claim
    sa.Column("record_key", sa.Text, nullable=False),  # file sha256, remittance_key or claim_key
    sa.Column("reason_code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("claims", sa.Integer, nullable=False, server_default="0"),
    sa.Column("charge", sa.Numeric(18, 2), nullable=False, server_default="0"),
    sa.Column("paid", sa.Numeric(18, 2), nullable=False, server_default="0"),
    sa.Column("uri", sa.Text),
    sa.Column("status", sa.Text, nullable=False, server_default="open"),  # open, released
    _created(),
    sa.Column("purged_at", TIMESTAMP(timezone=True)),  # the bytes at uri are gone; reason, counts and cents stay
    sa.Index("quarantine_partition", "practice", "object", "day"),
)

#: Remittance claims that wait for a person before anything is proposed.
holds = sa.Table(
    "holds",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("claim_key", sa.Text, primary_key=True),
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("claim_token", sa.Text),
    sa.Column("reason_code", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("charge", sa.Numeric(18, 2)),
    sa.Column("paid", sa.Numeric(18, 2)),
    sa.Column("status", sa.Text, nullable=False, server_default="open"),
    _created(),
    sa.Index("holds_day", "practice", "day"),
)

#: The token vault. Values are AEAD ciphertext bound to practice, kind, token and key version; found by a keyed blind index.
vault_tokens = sa.Table(
    "vault_tokens",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),
    sa.Column("blind_index", sa.LargeBinary, primary_key=True),
    sa.Column("token", sa.Text, nullable=False),
    sa.Column("ciphertext", sa.LargeBinary, nullable=False),
    sa.Column("key_version", sa.Integer, nullable=False),
    _created(),
    sa.Column("index_version", sa.Integer, nullable=False, server_default="1"),  # of the key of blind_index
    sa.Column("own_secret", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("shredded_at", TIMESTAMP(timezone=True)),
    sa.UniqueConstraint("practice", "token", name="vault_tokens_token"),
)

#: Half of the key of each vault value: without it the value is gone. Kept out of long-lived backups, so that shredding
#: reaches them.
vault_secrets = sa.Table(
    "vault_secrets",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
)

#: Rises whenever a practice's vault keys change or a value is shredded; writers of an earlier epoch are refused.
vault_state = sa.Table(
    "vault_state",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
)

#: Which tokens a run may reveal, for what purpose (include/policies/reidentification.yml) and how long.
token_grants = sa.Table(
    "token_grants",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("run", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, primary_key=True),
    sa.Column("expires_at", TIMESTAMP(timezone=True), nullable=False),
    sa.Index("token_grants_expiry", "expires_at"),
)

#: Half of the key of each sealed object: without it the object is gone. Kept out of long-lived backups, like vault_secrets.
object_secrets = sa.Table(
    "object_secrets",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("zone", sa.Text, primary_key=True),  # landing, quarantine
    sa.Column("context", sa.Text, primary_key=True),  # what the object is sealed for
    sa.Column("secret", sa.LargeBinary, nullable=False),
    _created(),
)

#: Tokens that stood with a claim in published versions that were purged since: shredding a patient finds them here.
token_traces = sa.Table(
    "token_traces",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("claim_token", sa.Text, primary_key=True),
    sa.Column("token", sa.Text, primary_key=True),
    sa.Index("token_traces_token", "practice", "token"),
)

#: Wrapped data keys (envelope encryption). purpose: landing, quarantine, vault, index.
data_keys = sa.Table(
    "data_keys",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("purpose", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("master_key", sa.Text, nullable=False),  # id of the key that wraps it
    _created(),
)

proposals = sa.Table(
    "proposals",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # UUIDv5 of practice, kind and business key
    sa.Column("practice", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # posting, denial_follow_up, underpayment_dispute, coder_review
    sa.Column("day", sa.Date, nullable=False),
    sa.Column("claim_token", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("amount", sa.Numeric(18, 2), nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, server_default="20"),  # DrChrono's 10 low .. 40 urgent
    sa.Column("payload", JSONB, nullable=False),  # de-identified; amounts as strings
    sa.Column("content_hash", sa.Text, nullable=False),  # SHA-256 of the RFC 8785 form of kind, claim_token, payload
    sa.Column("status", sa.Text, nullable=False),  # proposed, approved, edited, rejected, applied, failed, expired
    sa.Column("expires_on", sa.Date),
    _created(),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=_now),
    sa.Index("proposals_status", "practice", "status", "kind"),
    sa.Index("proposals_day", "practice", "day"),
)

#: Every state change of a proposal, never updated.
proposal_events = sa.Table(
    "proposal_events",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("proposal_id", sa.Text, sa.ForeignKey("medbill.proposals.id"), nullable=False),
    sa.Column(
        "event", sa.Text, nullable=False
    ),  # proposed, revised, approved, edited, rejected, applied, failed, expired
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("note", sa.Text),
    sa.Column("payload", JSONB),  # the edited content, where the event is edited
    _created(),
    sa.Index("proposal_events_proposal", "proposal_id"),
)

#: Write-backs owed to a platform: committed with the approval, sent at least once, effective once.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("idempotency_key", sa.Text, primary_key=True),  # UUIDv5 of proposal, action and content hash
    sa.Column("proposal_id", sa.Text, sa.ForeignKey("medbill.proposals.id"), nullable=False),
    sa.Column("practice", sa.Text, nullable=False),
    sa.Column("platform", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),  # one of the adapter's: task, document, ...
    sa.Column("sequence", sa.Integer, nullable=False),  # order within the proposal
    sa.Column("content_hash", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # pending, sending, unknown, applied, failed
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column(
        "fence", sa.BigInteger, nullable=False, server_default="0"
    ),  # rises at each claim; a late writer is refused
    sa.Column("lease_until", TIMESTAMP(timezone=True)),
    sa.Column("receipt", JSONB),  # platform ids and status, no PHI
    sa.Column("error_code", sa.Text),
    _created(),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=_now),
    sa.Index("outbox_status", "practice", "status"),
)

#: Where each extraction stands.
watermarks = sa.Table(
    "watermarks",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),  # drchrono.line_items, ...
    sa.Column("watermark", sa.Text, nullable=False),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=_now),
)

#: Calls made and reserved on a platform per bucket of its rate limits, as seconds since 1970: shared by all workers.
platform_budgets = sa.Table(
    "platform_budgets",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("platform", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("calls", sa.ARRAY(sa.Double), nullable=False),
)

#: Whether a platform is left alone after failures in a row, and until when.
platform_circuits = sa.Table(
    "platform_circuits",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("platform", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("open_until", TIMESTAMP(timezone=True)),
    sa.Column("error_code", sa.Text),
    sa.Column("updated_at", TIMESTAMP(timezone=True), nullable=False, server_default=_now),
)

#: Approved write-backs that no platform takes by API: a person does them by hand (medbill.proposals.work).
work_items = sa.Table(
    "work_items",
    metadata,
    sa.Column(
        "idempotency_key", sa.Text, sa.ForeignKey("medbill.outbox.idempotency_key"), primary_key=True
    ),  # of the write-back, which names the proposal
    sa.Column("practice", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("due_on", sa.Date),
    sa.Column("status", sa.Text, nullable=False, server_default="open"),  # open, done
    sa.Column("done_by", sa.Text),
    sa.Column("done_at", TIMESTAMP(timezone=True)),
    _created(),
    sa.Index("work_items_status", "practice", "status"),
)

#: Deliveries of a platform's webhooks, each once: ids, words and days, never a body (medbill.platforms.webhooks).
webhook_events = sa.Table(
    "webhook_events",
    metadata,
    sa.Column("practice", sa.Text, primary_key=True),
    sa.Column("platform", sa.Text, primary_key=True),
    sa.Column("event_id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("day", sa.Date),  # service day to extract again; empty: those of the usual window
    sa.Column("sent_at", TIMESTAMP(timezone=True)),  # as signed; empty where the platform signs no time
    sa.Column("status", sa.Text, nullable=False),  # pending, done, noted (wakes nothing), parked (unknown type)
    sa.Column("done_at", TIMESTAMP(timezone=True)),
    _created(),
    sa.Index("webhook_events_status", "practice", "platform", "status"),
)
