"""The assets between the pipelines. URIs are logical: file://medbill/<zone>/<object>; where the bytes lie is a setting."""

from airflow.sdk import Asset

PRACTICES = Asset(name="practices", uri="file://medbill/policies/practices")
REFERENCE = Asset(name="reference", uri="file://medbill/reference")
PLATFORM_CLAIMS = Asset(name="platform_claims", uri="file://medbill/platform/claims")
#: Raised by the receiver of webhooks (medbill_plugin.webhooks): something changed on the platform.
DRCHRONO_EVENTS = Asset(name="drchrono_events", uri="file://medbill/webhooks/drchrono")
INBOX = Asset(name="inbox", uri="file://medbill/inbox/remittances")
LANDED_CLAIMS = Asset(name="landed_claims", uri="file://medbill/landing/claims")
LANDED_REMITTANCES = Asset(name="landed_remittances", uri="file://medbill/landing/remittances")
LANDED_NOTES = Asset(name="landed_notes", uri="file://medbill/landing/notes")
CLAIMS = Asset(name="claims", uri="file://medbill/deid/claims")
REMITTANCES = Asset(name="remittances", uri="file://medbill/deid/remittances")
NOTES = Asset(name="notes", uri="file://medbill/deid/notes")
SCRUBBED = Asset(name="scrubbed", uri="file://medbill/results/scrub")
POSTINGS = Asset(name="postings", uri="file://medbill/results/postings")
DENIALS = Asset(name="denials", uri="file://medbill/results/denials")
PROPOSALS = Asset(name="proposals", uri="file://medbill/proposals")
DENIAL_REPORT = Asset(name="denial_report", uri="file://medbill/reports/denials")
LEDGER = Asset(name="ledger", uri="file://medbill/ledger/rows")
CHECKPOINTS = Asset(name="checkpoints", uri="file://medbill/ledger/checkpoints")
RETENTION = Asset(name="retention", uri="file://medbill/policies/retention")
WRITE_BACKS = Asset(name="write_backs", uri="file://medbill/platform/write_backs")
