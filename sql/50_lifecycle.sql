-- 50_lifecycle.sql: lifecycles, and the tables whose rows follow one
--
-- A lifecycle is rows: states, and which may follow which.  Shipped rows stand in the two tables
-- of defaults, which no dump contains; changes stand in the other two, which win and are dumped.

CREATE TABLE tenantcall.lifecycle_state_defaults
(
    lifecycle text COLLATE "C" NOT NULL CHECK (octet_length(lifecycle) BETWEEN 1 AND 63),
    state text COLLATE "C" NOT NULL CHECK (octet_length(state) BETWEEN 1 AND 63),
    rank integer NOT NULL,
    is_initial boolean NOT NULL DEFAULT false,
    is_terminal boolean NOT NULL DEFAULT false,
    PRIMARY KEY (lifecycle, state)
);
COMMENT ON TABLE tenantcall.lifecycle_state_defaults IS 'states of the shipped lifecycles; change them with set_lifecycle_state()';
REVOKE ALL ON tenantcall.lifecycle_state_defaults FROM PUBLIC;

CREATE TABLE tenantcall.lifecycle_transition_defaults
(
    lifecycle text COLLATE "C" NOT NULL,
    from_state text COLLATE "C" NOT NULL,
    to_state text COLLATE "C" NOT NULL,
    PRIMARY KEY (lifecycle, from_state, to_state),
    FOREIGN KEY (lifecycle, from_state) REFERENCES tenantcall.lifecycle_state_defaults,
    FOREIGN KEY (lifecycle, to_state) REFERENCES tenantcall.lifecycle_state_defaults,
    CHECK (from_state <> to_state)
);
COMMENT ON TABLE tenantcall.lifecycle_transition_defaults IS 'transitions of the shipped lifecycles; change them with set_transition()';
REVOKE ALL ON tenantcall.lifecycle_transition_defaults FROM PUBLIC;

CREATE TABLE tenantcall.lifecycle_states
(
    lifecycle text COLLATE "C" NOT NULL CHECK (octet_length(lifecycle) BETWEEN 1 AND 63),
    state text COLLATE "C" NOT NULL CHECK (octet_length(state) BETWEEN 1 AND 63),
    rank integer NOT NULL,
    is_initial boolean NOT NULL DEFAULT false,
    is_terminal boolean NOT NULL DEFAULT false,
    enabled boolean NOT NULL DEFAULT true,
    PRIMARY KEY (lifecycle, state)
);
COMMENT ON TABLE tenantcall.lifecycle_states IS 'states added to the shipped ones, or in their place';
COMMENT ON COLUMN tenantcall.lifecycle_states.enabled IS 'false takes a shipped state out';
REVOKE ALL ON tenantcall.lifecycle_states FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.lifecycle_states', '');

CREATE TABLE tenantcall.lifecycle_transitions
(
    lifecycle text COLLATE "C" NOT NULL CHECK (octet_length(lifecycle) BETWEEN 1 AND 63),
    from_state text COLLATE "C" NOT NULL CHECK (octet_length(from_state) BETWEEN 1 AND 63),
    to_state text COLLATE "C" NOT NULL CHECK (octet_length(to_state) BETWEEN 1 AND 63),
    enabled boolean NOT NULL DEFAULT true,
    PRIMARY KEY (lifecycle, from_state, to_state),
    CHECK (from_state <> to_state)
);
COMMENT ON TABLE tenantcall.lifecycle_transitions IS 'transitions added to the shipped ones, or in their place';
COMMENT ON COLUMN tenantcall.lifecycle_transitions.enabled IS 'false takes a shipped transition out';
REVOKE ALL ON tenantcall.lifecycle_transitions FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.lifecycle_transitions', '');

-- Changes act in every backend at commit, also when replayed.
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.lifecycle_state_defaults
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.lifecycle_transition_defaults
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.lifecycle_states
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.lifecycle_transitions
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
ALTER TABLE tenantcall.lifecycle_state_defaults ENABLE ALWAYS TRIGGER tenantcall_invalidate;
ALTER TABLE tenantcall.lifecycle_transition_defaults ENABLE ALWAYS TRIGGER tenantcall_invalidate;
ALTER TABLE tenantcall.lifecycle_states ENABLE ALWAYS TRIGGER tenantcall_invalidate;
ALTER TABLE tenantcall.lifecycle_transitions ENABLE ALWAYS TRIGGER tenantcall_invalidate;

-- The lifecycle of a call.  A call can end before we learn that it was answered (the message that
-- says so is late, or lost), so every end follows from the beginning too.  "abandoned" is our own
-- guess about a call that fell silent; a real end that arrives late corrects it.  Analysis follows
-- completion only: that of another call is noted beside its status.
INSERT INTO tenantcall.lifecycle_state_defaults (lifecycle, state, rank, is_initial, is_terminal) VALUES
    ('call', 'inbound', 10, true, false),
    ('call', 'outbound', 10, true, false),
    ('call', 'ongoing', 20, false, false),
    ('call', 'abandoned', 30, false, false),
    ('call', 'not_connected', 40, false, true),
    ('call', 'failed', 40, false, true),
    ('call', 'transferred', 40, false, true),
    ('call', 'completed', 40, false, false),
    ('call', 'analyzed', 50, false, true);
INSERT INTO tenantcall.lifecycle_transition_defaults (lifecycle, from_state, to_state)
SELECT 'call', b.state, t.state
FROM (VALUES ('inbound'), ('outbound')) AS b (state),
     (VALUES ('ongoing'), ('abandoned'), ('not_connected'), ('failed'), ('transferred'), ('completed')) AS t (state)
UNION ALL
SELECT 'call', 'ongoing', t.state
FROM (VALUES ('abandoned'), ('not_connected'), ('failed'), ('transferred'), ('completed')) AS t (state)
UNION ALL
SELECT 'call', 'abandoned', t.state
FROM (VALUES ('not_connected'), ('failed'), ('transferred'), ('completed')) AS t (state)
UNION ALL
SELECT 'call', 'completed', 'analyzed';

CREATE VIEW tenantcall.lifecycle_states_in_force AS
SELECT s.lifecycle, s.state, s.rank, s.is_initial, s.is_terminal, false AS shipped
FROM tenantcall.lifecycle_states AS s
WHERE s.enabled
UNION ALL
SELECT d.lifecycle, d.state, d.rank, d.is_initial, d.is_terminal, true
FROM tenantcall.lifecycle_state_defaults AS d
WHERE NOT EXISTS (SELECT FROM tenantcall.lifecycle_states AS s
                  WHERE (s.lifecycle, s.state) = (d.lifecycle, d.state));
COMMENT ON VIEW tenantcall.lifecycle_states_in_force IS 'states of every lifecycle';

CREATE VIEW tenantcall.lifecycle_transitions_in_force AS
WITH transitions AS (
    SELECT t.lifecycle, t.from_state, t.to_state, false AS shipped
    FROM tenantcall.lifecycle_transitions AS t
    WHERE t.enabled
    UNION ALL
    SELECT d.lifecycle, d.from_state, d.to_state, true
    FROM tenantcall.lifecycle_transition_defaults AS d
    WHERE NOT EXISTS (SELECT FROM tenantcall.lifecycle_transitions AS t
                      WHERE (t.lifecycle, t.from_state, t.to_state) = (d.lifecycle, d.from_state, d.to_state))
)
SELECT t.lifecycle, t.from_state, t.to_state, t.shipped
FROM transitions AS t
JOIN tenantcall.lifecycle_states_in_force AS f ON (f.lifecycle, f.state) = (t.lifecycle, t.from_state)
JOIN tenantcall.lifecycle_states_in_force AS s ON (s.lifecycle, s.state) = (t.lifecycle, t.to_state)
WHERE NOT f.is_terminal;
COMMENT ON VIEW tenantcall.lifecycle_transitions_in_force IS 'legal transitions of every lifecycle';

CREATE VIEW tenantcall.lifecycles AS
SELECT s.lifecycle, s.state, s.rank, s.is_initial, s.is_terminal, s.shipped,
       ARRAY(SELECT t.to_state
             FROM tenantcall.lifecycle_transitions_in_force AS t
             JOIN tenantcall.lifecycle_states_in_force AS n ON (n.lifecycle, n.state) = (t.lifecycle, t.to_state)
             WHERE (t.lifecycle, t.from_state) = (s.lifecycle, s.state)
             ORDER BY n.rank, n.state) AS next_states
FROM tenantcall.lifecycle_states_in_force AS s;
COMMENT ON VIEW tenantcall.lifecycles IS 'states of every lifecycle and what may follow them, shipped rules and changes together';
REVOKE ALL ON tenantcall.lifecycle_states_in_force, tenantcall.lifecycle_transitions_in_force,
    tenantcall.lifecycles FROM PUBLIC;

CREATE FUNCTION tenantcall.can_transition(lifecycle text, from_state text, to_state text) RETURNS boolean
    LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_can_transition';
COMMENT ON FUNCTION tenantcall.can_transition(text, text, text) IS 'may a row move so?';
REVOKE ALL ON FUNCTION tenantcall.can_transition(text, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.next_states(lifecycle text, state text) RETURNS SETOF text
    LANGUAGE C STABLE PARALLEL SAFE ROWS 4 AS 'MODULE_PATHNAME', 'tc_next_states';
COMMENT ON FUNCTION tenantcall.next_states(text, text) IS 'states that may follow, in order of rank';
REVOKE ALL ON FUNCTION tenantcall.next_states(text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.set_lifecycle_state(lifecycle text, state text, rank integer,
                                               is_initial boolean DEFAULT false,
                                               is_terminal boolean DEFAULT false) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
#variable_conflict use_column
BEGIN
    IF num_nulls($1, $2, $3, $4, $5) > 0 THEN
        RAISE EXCEPTION 'no argument may be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    INSERT INTO tenantcall.lifecycle_states AS s (lifecycle, state, rank, is_initial, is_terminal, enabled)
    VALUES ($1, $2, $3, $4, $5, true)
    ON CONFLICT (lifecycle, state) DO UPDATE
    SET (rank, is_initial, is_terminal, enabled) =
        (excluded.rank, excluded.is_initial, excluded.is_terminal, true);
    IF (SELECT count(*) FROM tenantcall.lifecycle_states_in_force AS s WHERE s.lifecycle = $1) > 64 THEN
        RAISE EXCEPTION 'lifecycle "%" would have more than 64 states', $1
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Remove states with tenantcall.drop_lifecycle_state().';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.set_lifecycle_state(text, text, integer, boolean, boolean) IS 'defines a state, or changes it; the first one makes the lifecycle';
REVOKE ALL ON FUNCTION tenantcall.set_lifecycle_state(text, text, integer, boolean, boolean) FROM PUBLIC;

-- Raises PT404 unless the state is in force.
CREATE FUNCTION tenantcall.require_state(lifecycle text, state text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF num_nulls($1, $2) > 0 THEN
        RAISE EXCEPTION 'no argument may be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT EXISTS (SELECT FROM tenantcall.lifecycle_states_in_force AS s WHERE (s.lifecycle, s.state) = ($1, $2)) THEN
        RAISE EXCEPTION 'lifecycle "%" has no state "%"', $1, $2
            USING ERRCODE = 'PT404',
                  HINT = 'See view tenantcall.lifecycles, or define the state with tenantcall.set_lifecycle_state().';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_state(text, text) IS 'internal: raises unless the state is in force';
REVOKE ALL ON FUNCTION tenantcall.require_state(text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.drop_lifecycle_state(lifecycle text, state text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM tenantcall.require_state($1, $2);
    DELETE FROM tenantcall.lifecycle_transitions AS t
    WHERE t.lifecycle = $1 AND $2 IN (t.from_state, t.to_state);
    DELETE FROM tenantcall.lifecycle_states AS s WHERE (s.lifecycle, s.state) = ($1, $2);
    INSERT INTO tenantcall.lifecycle_states (lifecycle, state, rank, enabled)
    SELECT d.lifecycle, d.state, d.rank, false
    FROM tenantcall.lifecycle_state_defaults AS d WHERE (d.lifecycle, d.state) = ($1, $2);
END
$$;
COMMENT ON FUNCTION tenantcall.drop_lifecycle_state(text, text) IS 'takes a state out, with its transitions; rows that are in it can no longer move';
REVOKE ALL ON FUNCTION tenantcall.drop_lifecycle_state(text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.set_transition(lifecycle text, from_state text, to_state text,
                                          allowed boolean DEFAULT true) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
#variable_conflict use_column
BEGIN
    PERFORM tenantcall.require_state($1, $2), tenantcall.require_state($1, $3);
    IF $4 IS NULL THEN
        RAISE EXCEPTION 'no argument may be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF $4 AND (SELECT s.is_terminal FROM tenantcall.lifecycle_states_in_force AS s
               WHERE (s.lifecycle, s.state) = ($1, $2)) THEN
        RAISE EXCEPTION 'state "%" of lifecycle "%" is a terminal state', $2, $1
            USING ERRCODE = 'PT409', DETAIL = 'Nothing follows a terminal state.',
                  HINT = 'Make it one that is not with tenantcall.set_lifecycle_state() first.';
    END IF;
    -- Only differences from what is shipped are kept.
    DELETE FROM tenantcall.lifecycle_transitions AS t WHERE (t.lifecycle, t.from_state, t.to_state) = ($1, $2, $3);
    IF $4 <> EXISTS (SELECT FROM tenantcall.lifecycle_transition_defaults AS d
                     WHERE (d.lifecycle, d.from_state, d.to_state) = ($1, $2, $3)) THEN
        INSERT INTO tenantcall.lifecycle_transitions (lifecycle, from_state, to_state, enabled)
        VALUES ($1, $2, $3, $4);
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.set_transition(text, text, text, boolean) IS 'permits a transition, or forbids it; acts at commit';
REVOKE ALL ON FUNCTION tenantcall.set_transition(text, text, text, boolean) FROM PUBLIC;

-- Granting it gives nothing away: only who may create triggers on a table can use it, and the
-- audit trail is written with the rights of that table's owner.
CREATE FUNCTION tenantcall.lifecycle_trigger() RETURNS trigger
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_lifecycle_trigger';
COMMENT ON FUNCTION tenantcall.lifecycle_trigger() IS 'refuses rows that begin or move against their lifecycle; see track_lifecycle()';
REVOKE ALL ON FUNCTION tenantcall.lifecycle_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.lifecycle_verify(rel regclass, state_column name, lifecycle text, audit text) RETURNS void
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_lifecycle_verify';
COMMENT ON FUNCTION tenantcall.lifecycle_verify(regclass, name, text, text) IS 'internal: raises if a table cannot be tracked so';
REVOKE ALL ON FUNCTION tenantcall.lifecycle_verify(regclass, name, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.lifecycle_trigger_args(tgargs bytea) RETURNS text[]
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_lifecycle_trigger_args';
COMMENT ON FUNCTION tenantcall.lifecycle_trigger_args(bytea) IS 'internal: arguments of a trigger';

CREATE VIEW tenantcall.tracked_tables AS
SELECT t.tgrelid::regclass AS relation, a.args[2] AS state_column, a.args[1] AS lifecycle,
       nullif(a.args[3], '') AS audit, t.tgenabled = 'A' AS always
FROM pg_catalog.pg_trigger AS t, tenantcall.lifecycle_trigger_args(t.tgargs) AS a (args)
WHERE t.tgfoid = 'tenantcall.lifecycle_trigger()'::regprocedure AND t.tgparentid = 0;
COMMENT ON VIEW tenantcall.tracked_tables IS 'tables whose rows follow a lifecycle';
COMMENT ON COLUMN tenantcall.tracked_tables.always IS 'false if somebody changed when its trigger fires: call track_lifecycle() again';
REVOKE ALL ON tenantcall.tracked_tables FROM PUBLIC;

-- Raises unless the caller may decide about the table.
CREATE FUNCTION tenantcall.require_trackable(rel regclass) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    class pg_class;
BEGIN
    SELECT c.* INTO class FROM pg_class AS c WHERE c.oid = rel;
    IF class.oid IS NULL THEN
        RAISE EXCEPTION 'a table is required' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF class.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table', rel USING ERRCODE = 'wrong_object_type';
    END IF;
    IF NOT pg_has_role(class.relowner, 'USAGE') THEN
        RAISE EXCEPTION 'must be owner of table %', rel USING ERRCODE = 'insufficient_privilege';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_trackable(regclass) IS 'internal: raises unless the caller owns the table';
REVOKE ALL ON FUNCTION tenantcall.require_trackable(regclass) FROM PUBLIC;

-- Drops our trigger of a table; says whether there was one.
CREATE FUNCTION tenantcall.drop_lifecycle_trigger(rel regclass) RETURNS boolean
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    ours name;
    dropped boolean := false;
BEGIN
    FOR ours IN SELECT t.tgname FROM pg_trigger AS t
                WHERE t.tgrelid = rel AND t.tgfoid = 'tenantcall.lifecycle_trigger()'::regprocedure
                  AND t.tgparentid = 0 LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', ours, rel);
        dropped := true;
    END LOOP;
    RETURN dropped;
END
$$;
COMMENT ON FUNCTION tenantcall.drop_lifecycle_trigger(regclass) IS 'internal: drops the trigger of track_lifecycle()';
REVOKE ALL ON FUNCTION tenantcall.drop_lifecycle_trigger(regclass) FROM PUBLIC;

CREATE FUNCTION tenantcall.track_lifecycle(rel regclass, state_column name, lifecycle text DEFAULT 'call',
                                           audit regclass DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    audit_name text := coalesce((SELECT format('%I.%I', n.nspname, c.relname)
                                 FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                                 WHERE c.oid = $4), '');
BEGIN
    IF NOT has_function_privilege('tenantcall.lifecycle_trigger()', 'EXECUTE') THEN
        RAISE EXCEPTION 'role "%" may not give lifecycles to tables', current_user
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'Superusers may, and who owns the table and was given the right.',
                  HINT = format('As a superuser, run SELECT tenantcall.grant_tracking(%L).', current_user);
    END IF;
    PERFORM tenantcall.require_trackable($1);
    IF num_nulls($2, $3) > 0 THEN
        RAISE EXCEPTION 'state_column and lifecycle must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT has_table_privilege((SELECT c.relowner FROM pg_class AS c WHERE c.oid = $1), $4, 'INSERT') THEN
        RAISE EXCEPTION 'the owner of table % may not insert into %', $1, $4
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'The audit trail is written with the rights of that owner.',
                  HINT = format('GRANT INSERT ON %s to it.', $4);
    END IF;
    PERFORM tenantcall.lifecycle_verify($1, $2, $3, audit_name),
            tenantcall.drop_lifecycle_trigger($1);
    -- Only from a partitioned table can a row depart to another partition.
    EXECUTE format('CREATE TRIGGER tenantcall_lifecycle AFTER INSERT OR UPDATE %s ON %s FOR EACH ROW '
                   'EXECUTE FUNCTION tenantcall.lifecycle_trigger(%L, %L, %L)',
                   (SELECT 'OR DELETE' FROM pg_class AS c WHERE c.oid = $1 AND c.relkind = 'p'),
                   $1, $3, $2, audit_name);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER tenantcall_lifecycle', $1);
END
$$;
COMMENT ON FUNCTION tenantcall.track_lifecycle(regclass, name, text, regclass) IS 'refuses from now on rows that begin or move against the lifecycle, and records each move in the audit table';
REVOKE ALL ON FUNCTION tenantcall.track_lifecycle(regclass, name, text, regclass) FROM PUBLIC;

CREATE FUNCTION tenantcall.untrack_lifecycle(rel regclass) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF NOT has_function_privilege('tenantcall.lifecycle_trigger()', 'EXECUTE') THEN
        RAISE EXCEPTION 'role "%" may not give lifecycles to tables', current_user
            USING ERRCODE = 'insufficient_privilege',
                  DETAIL = 'Superusers may, and who owns the table and was given the right.',
                  HINT = format('As a superuser, run SELECT tenantcall.grant_tracking(%L).', current_user);
    END IF;
    PERFORM tenantcall.require_trackable($1);
    IF NOT tenantcall.drop_lifecycle_trigger($1) THEN
        RAISE EXCEPTION 'table % does not follow a lifecycle', $1
            USING ERRCODE = 'PT404', HINT = 'See view tenantcall.tracked_tables.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.untrack_lifecycle(regclass) IS 'undoes track_lifecycle(); the audit trail stays';
REVOKE ALL ON FUNCTION tenantcall.untrack_lifecycle(regclass) FROM PUBLIC;
