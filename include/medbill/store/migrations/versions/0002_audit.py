"""The ledger: schema audit, append-only rows in sixteen hash chains, one function that appends.

What is hashed is written down in docs/ledger.md; medbill.audit.verify recomputes it.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = """
CREATE SCHEMA audit;

CREATE TABLE audit.rows (
  chain           smallint    NOT NULL CHECK (chain BETWEEN 0 AND 15),
  seq             bigint      NOT NULL CHECK (seq > 0),
  event_id        uuid        NOT NULL,
  idempotency_key text        NOT NULL,
  recorded_at     timestamptz NOT NULL,  -- this database's clock
  occurred_at     timestamptz NOT NULL,  -- the writer's clock
  actor           text        NOT NULL,
  on_behalf_of    text,
  practice        text        NOT NULL,
  purpose         text        NOT NULL,
  action          text        NOT NULL,
  kind            text        NOT NULL,
  resource        text        NOT NULL,
  outcome         text        NOT NULL,
  intent          uuid,                  -- of an outcome row: the event_id of its intent
  dag_id          text,
  run_id          text,
  task_id         text,
  map_index       integer,
  try_number      integer,
  subject_token   text,
  source_hash     text,
  payload         bytea       NOT NULL,  -- RFC 8785; the columns above repeat it for searching
  prev_hash       bytea       NOT NULL,
  row_hash        bytea       NOT NULL,
  PRIMARY KEY (chain, seq),
  CONSTRAINT rows_idempotency_key UNIQUE (idempotency_key)
);
CREATE INDEX rows_event ON audit.rows (event_id);
CREATE INDEX rows_intent ON audit.rows (intent) WHERE intent IS NOT NULL;
CREATE INDEX rows_recorded ON audit.rows (recorded_at);
CREATE INDEX rows_run ON audit.rows (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX rows_subject ON audit.rows (subject_token) WHERE subject_token IS NOT NULL;

CREATE TABLE audit.heads (
  chain    smallint PRIMARY KEY CHECK (chain BETWEEN 0 AND 15),
  seq      bigint   NOT NULL,
  row_hash bytea    NOT NULL
);
"""

_FUNCTIONS = """
CREATE FUNCTION audit.part(content bytea) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog
AS $$ SELECT int8send(octet_length(content)::bigint) || content $$;

CREATE FUNCTION audit.first_hash(chain smallint) RETURNS bytea
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog
AS $$ SELECT sha256(audit.part('medbill.audit.chain.v1') || audit.part(int8send(chain::bigint))) $$;

CREATE FUNCTION audit.hash_of(chain smallint, seq bigint, recorded_at timestamptz, payload bytea, prev_hash bytea)
RETURNS bytea
LANGUAGE sql STABLE STRICT PARALLEL SAFE SET search_path = pg_catalog
AS $$
  SELECT sha256(
    audit.part('medbill.audit.row.v1') || audit.part(int8send(chain::bigint)) || audit.part(int8send(seq))
    || audit.part(int8send((extract(epoch FROM recorded_at) * 1000000)::bigint))
    || audit.part(payload) || audit.part(prev_hash))
$$;

INSERT INTO audit.heads SELECT c, 0, audit.first_hash(c::smallint) FROM generate_series(0, 15) c;

-- The head is locked before the key is looked up: of two writers with one key the second waits, then finds the row.
-- The chain follows from the key, so both wait for the same head.
CREATE FUNCTION audit.append(p_payload bytea) RETURNS bigint
LANGUAGE plpgsql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog SET lock_timeout = '10s'
AS $$
DECLARE
  j       jsonb := convert_from(p_payload, 'UTF8')::jsonb;
  v_key   text := j->>'idempotency_key';
  v_chain smallint := mod(get_byte(sha256(convert_to(v_key, 'UTF8')), 0), 16);
  v_head  audit.heads;
  v_same  audit.rows;
  v_now   timestamptz;
  v_hash  bytea;
BEGIN
  SELECT * INTO STRICT v_head FROM audit.heads h WHERE h.chain = v_chain FOR UPDATE;
  SELECT * INTO v_same FROM audit.rows r WHERE r.idempotency_key = v_key;
  IF FOUND THEN
    IF (v_same.practice, v_same.action, v_same.kind, v_same.resource, v_same.outcome)
       IS DISTINCT FROM (j->>'practice', j->>'action', j->>'kind', j->>'resource', j->>'outcome') THEN
      RAISE EXCEPTION 'the idempotency key belongs to another event' USING ERRCODE = 'MB001';
    END IF;
    RETURN v_same.seq * 16 + v_same.chain;
  END IF;
  v_head.seq := v_head.seq + 1;
  v_now := clock_timestamp();
  v_hash := audit.hash_of(v_chain, v_head.seq, v_now, p_payload, v_head.row_hash);
  INSERT INTO audit.rows VALUES (
    v_chain, v_head.seq, (j->>'event_id')::uuid, v_key, v_now, (j->>'occurred_at')::timestamptz, j->>'actor',
    j->>'on_behalf_of', j->>'practice', j->>'purpose', j->>'action', j->>'kind', j->>'resource', j->>'outcome',
    (j->>'intent')::uuid, j->>'dag_id', j->>'run_id', j->>'task_id', (j->>'map_index')::integer,
    (j->>'try_number')::integer, j->>'subject_token', j->>'source_hash', p_payload, v_head.row_hash, v_hash);
  UPDATE audit.heads h SET seq = v_head.seq, row_hash = v_hash WHERE h.chain = v_chain;
  RETURN v_head.seq * 16 + v_chain;
END $$;

CREATE FUNCTION audit.refuse() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$ BEGIN RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'MB002'; END $$;

CREATE FUNCTION audit.one_step() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
  IF NEW.chain <> OLD.chain OR NEW.seq <> OLD.seq + 1 THEN
    RAISE EXCEPTION 'the ledger is append-only' USING ERRCODE = 'MB002';
  END IF;
  RETURN NEW;
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.rows
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER append_only BEFORE INSERT OR DELETE OR TRUNCATE ON audit.heads
  FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse();
CREATE TRIGGER one_step BEFORE UPDATE ON audit.heads FOR EACH ROW EXECUTE FUNCTION audit.one_step();
ALTER TABLE audit.rows ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER append_only;
ALTER TABLE audit.heads ENABLE ALWAYS TRIGGER one_step;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA audit FROM PUBLIC;
"""

# Roles belong to the cluster, not to the database: another database may have made them, or be making them now.
# A connection that may not create roles leaves everything with its own; docs/ledger.md says what that costs.
_ROLES = """
DO $$
DECLARE
  v_role text;
  v_may  boolean := (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user);
  v_super boolean := (SELECT rolsuper FROM pg_roles WHERE rolname = current_user);
BEGIN
  FOREACH v_role IN ARRAY ARRAY['medbill_audit_owner', 'medbill_audit_writer', 'medbill_auditor'] LOOP
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = v_role) THEN
      IF NOT v_may THEN
        RETURN;
      END IF;
      BEGIN
        EXECUTE 'CREATE ROLE ' || quote_ident(v_role) || ' NOLOGIN';
      EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
      END;
    END IF;
  END LOOP;
  GRANT USAGE ON SCHEMA audit TO medbill_audit_writer, medbill_auditor;
  GRANT EXECUTE ON FUNCTION audit.append(bytea) TO medbill_audit_writer;
  GRANT SELECT ON audit.rows, audit.heads TO medbill_auditor;
  IF v_super THEN
    ALTER SCHEMA audit OWNER TO medbill_audit_owner;
    ALTER TABLE audit.rows OWNER TO medbill_audit_owner;
    ALTER TABLE audit.heads OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.part(bytea) OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.first_hash(smallint) OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.hash_of(smallint, bigint, timestamptz, bytea, bytea) OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.append(bytea) OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.refuse() OWNER TO medbill_audit_owner;
    ALTER FUNCTION audit.one_step() OWNER TO medbill_audit_owner;
  END IF;
END $$;
"""


def upgrade() -> None:
    connection = op.get_bind()
    for script in (_TABLES, _FUNCTIONS, _ROLES):
        connection.exec_driver_sql(script)
