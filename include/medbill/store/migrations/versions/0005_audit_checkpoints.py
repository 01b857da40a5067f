"""Checkpoints of the ledger, and an index over what a ledger row's details may be searched by.

The checkpoints here are copies. Those that count lie where this database's administrator cannot reach; the copies let the
verifier see one that was taken away there. Rows that exist stay as they are.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE audit.checkpoints (
  number    bigint      PRIMARY KEY CHECK (number > 0),
  stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  content   bytea       NOT NULL  -- as it lies in write-once storage
);
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER append_only;

-- What a row may be found by besides its columns: known details as key=value, and vault tokens wherever they stand in
-- the details. An altered payload is no JSON perhaps: it has no terms, and the verifier speaks of it. Every append runs
-- this, so it parses only what may have terms, and sets no search_path, which would cost more than the rest of it.
CREATE FUNCTION audit.terms(p_payload bytea) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
  v_from integer := position('"details":{'::bytea in p_payload);
  v_to   integer := position('"event_id":"'::bytea in p_payload);
  v_part bytea;
  d      jsonb;
BEGIN
  IF v_from = 0 THEN
    RETURN '{}';
  END IF;
  v_part := CASE WHEN v_to > v_from THEN substring(p_payload FROM v_from FOR v_to - v_from) ELSE p_payload END;
  IF position('"['::bytea in v_part) = 0 AND position('_hash":"'::bytea in v_part) = 0
     AND position('"model":"'::bytea in v_part) = 0 AND position('"decision":"'::bytea in v_part) = 0 THEN
    RETURN '{}';
  END IF;
  BEGIN
    d := convert_from(p_payload, 'UTF8')::jsonb->'details';
    RETURN ARRAY(
      SELECT e.key || '=' || (e.value #>> '{}') FROM jsonb_each(d) e
      WHERE e.key IN ('prompt_hash', 'response_hash', 'model', 'decision', 'proposal_hash')
      UNION
      SELECT t #>> '{}' FROM jsonb_path_query(d, 'strict $.**') t
      WHERE jsonb_typeof(t) = 'string' AND (t #>> '{}') ~ '^\\[[A-Z][A-Z_]*_[A-Z0-9]+\\]$');
  EXCEPTION WHEN OTHERS THEN
    RETURN '{}';
  END;
END $$;

CREATE INDEX rows_terms ON audit.rows USING gin (audit.terms(payload)) WHERE audit.terms(payload) <> '{}';
CREATE INDEX rows_proposal ON audit.rows (resource, recorded_at) WHERE left(resource, 9) = 'proposal:';
CREATE INDEX rows_proposal_hash ON audit.rows (source_hash) WHERE left(resource, 9) = 'proposal:';
CREATE INDEX rows_subject_time ON audit.rows (subject_token, recorded_at) WHERE subject_token IS NOT NULL;
DROP INDEX audit.rows_subject;
"""

# As in 0002: roles belong to the cluster, and an account that may not make them leaves everything with itself.
_ROLES = """
DO $$
DECLARE
  v_may   boolean := (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user);
  v_super boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'medbill_audit_sealer') THEN
    IF NOT v_may THEN
      RETURN;
    END IF;
    BEGIN
      CREATE ROLE medbill_audit_sealer NOLOGIN;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END IF;
  GRANT USAGE ON SCHEMA audit TO medbill_audit_sealer;
  GRANT SELECT ON audit.rows, audit.heads, audit.checkpoints TO medbill_audit_sealer;
  GRANT INSERT ON audit.checkpoints TO medbill_audit_sealer;
  GRANT SELECT ON audit.checkpoints TO medbill_auditor;
  IF v_super THEN
    ALTER TABLE audit.checkpoints OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.terms(bytea) OWNER TO medbill_audit_owner;
  END IF;
END $$;
"""


def upgrade() -> None:
    connection = op.get_bind()
    for script in (_TABLES, _ROLES):
        connection.exec_driver_sql(script)


def downgrade() -> None:
    op.get_bind().exec_driver_sql(
        "CREATE INDEX rows_subject ON audit.rows (subject_token) WHERE subject_token IS NOT NULL;"
        "DROP INDEX audit.rows_terms; DROP INDEX audit.rows_proposal; DROP INDEX audit.rows_proposal_hash; DROP INDEX audit.rows_subject_time;"
        "DROP FUNCTION audit.terms(bytea); DROP TABLE audit.checkpoints"
    )
