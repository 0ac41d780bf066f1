-- 66_trail.sql: the audit trail: append-only, partitioned by time, kept for as long as is said

-- How long what is kept.  A row goes when it is older; partitions go as a whole.
CREATE TABLE tenantcall.retention_defaults
(
    relation text PRIMARY KEY,
    time_column name NOT NULL,
    partitioned boolean NOT NULL,
    keep interval
);
COMMENT ON TABLE tenantcall.retention_defaults IS 'shipped: how long events, audit trail, function calls and quarantine are kept';
REVOKE ALL ON tenantcall.retention_defaults FROM PUBLIC;
INSERT INTO tenantcall.retention_defaults (relation, time_column, partitioned, keep) VALUES
    ('call_events', 'call_at', true, '90 days'), ('call_transitions', 'at', true, '400 days'),
    ('tenant_decisions', 'decided_at', true, '400 days'), ('refusals', 'quarter', true, '400 days'),
    ('function_calls', 'accepted_at', false, '90 days'),
    ('quarantine', 'quarantined_at', false, '90 days'), ('unplaced_refusals', 'quarter', false, '400 days');

CREATE TABLE tenantcall.retentions
(
    relation text PRIMARY KEY REFERENCES tenantcall.retention_defaults,
    keep interval CONSTRAINT retentions_at_least_a_week CHECK (keep >= '7 days')
);
COMMENT ON TABLE tenantcall.retentions IS 'changes to how long what is kept, at least 7 days; NULL: forever';
REVOKE ALL ON tenantcall.retentions FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.retentions', '');

CREATE VIEW tenantcall.retentions_in_force AS
    SELECT d.relation, d.time_column, d.partitioned, CASE WHEN r.relation IS NULL THEN d.keep ELSE r.keep END AS keep,
           r.relation IS NOT NULL AS changed
    FROM tenantcall.retention_defaults AS d LEFT JOIN tenantcall.retentions AS r USING (relation);
COMMENT ON VIEW tenantcall.retentions_in_force IS 'how long what is kept; NULL: forever';
REVOKE ALL ON tenantcall.retentions_in_force FROM PUBLIC;

-- Refusals that concern no company: forged ones, and those of unknown numbers.
CREATE TABLE tenantcall.unplaced_refusals
(
    quarter timestamptz NOT NULL,
    kind text NOT NULL,
    outcome text NOT NULL,
    reason text NOT NULL,
    by_role text NOT NULL,
    slot integer NOT NULL,
    refused bigint NOT NULL DEFAULT 1,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (quarter, kind, outcome, reason, by_role, slot)
) WITH (fillfactor = 50);
COMMENT ON TABLE tenantcall.unplaced_refusals IS 'returned refusals that concern no company, counted by quarter of an hour';
COMMENT ON COLUMN tenantcall.unplaced_refusals.slot IS 'of the server process that counted: no two count in one row at once';
REVOKE ALL ON tenantcall.unplaced_refusals FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.unplaced_refusals', '');

CREATE FUNCTION tenantcall.trail_guard_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_trail_guard_trigger';
COMMENT ON FUNCTION tenantcall.trail_guard_trigger() IS 'refuses to change or delete rows of the audit trail, except to the library''s own upkeep';
REVOKE ALL ON FUNCTION tenantcall.trail_guard_trigger() FROM PUBLIC;
CREATE TRIGGER tenantcall_trail BEFORE UPDATE OR DELETE ON tenantcall.unplaced_refusals
    FOR EACH ROW EXECUTE FUNCTION tenantcall.trail_guard_trigger();
ALTER TABLE tenantcall.unplaced_refusals ENABLE ALWAYS TRIGGER tenantcall_trail;
CREATE TRIGGER tenantcall_trail_truncate BEFORE TRUNCATE ON tenantcall.unplaced_refusals
    FOR EACH STATEMENT EXECUTE FUNCTION tenantcall.trail_guard_trigger();
ALTER TABLE tenantcall.unplaced_refusals ENABLE ALWAYS TRIGGER tenantcall_trail_truncate;

-- Notes calls of days that may have been rolled up.
CREATE FUNCTION tenantcall.usage_mark_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_usage_mark_trigger';
COMMENT ON FUNCTION tenantcall.usage_mark_trigger() IS 'notes changed calls of former days, whose usage is then computed again';
REVOKE ALL ON FUNCTION tenantcall.usage_mark_trigger() FROM PUBLIC;

-- Refusals by company, and what was used.
CREATE FUNCTION tenantcall.create_upkeep_tables(schema name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    PERFORM set_config('search_path', quote_ident(schema) || ', pg_temp', true);
    -- Each server process counts in rows of its own, so that counting never waits.  Quarters of an
    -- hour, since the days of all time zones begin with one.
    CREATE TABLE refusals
    (
        company_id bigint NOT NULL REFERENCES companies,
        quarter timestamptz NOT NULL,
        kind text NOT NULL,
        outcome text NOT NULL,
        reason text NOT NULL,
        by_role text NOT NULL,
        slot integer NOT NULL,
        refused bigint NOT NULL DEFAULT 1,
        last_at timestamptz NOT NULL,
        PRIMARY KEY (company_id, quarter, kind, outcome, reason, by_role, slot)
    ) PARTITION BY RANGE (quarter);
    -- Days of the company's time zone.  Those before closed_until are rolled up; a call of such a
    -- day that changes later leaves a mark, and its day is computed again.
    CREATE TABLE usage_daily
    (
        company_id bigint NOT NULL REFERENCES companies,
        day date NOT NULL,
        calls bigint NOT NULL,
        seconds numeric NOT NULL,
        function_calls bigint NOT NULL,
        refusals bigint NOT NULL,
        cost_cents numeric NOT NULL,
        PRIMARY KEY (company_id, day)
    );
    CREATE TABLE usage_state
    (
        company_id bigint PRIMARY KEY REFERENCES companies,
        closed_until date NOT NULL
    );
    CREATE TABLE usage_marks
    (
        company_id bigint NOT NULL,
        mark_id bigint GENERATED ALWAYS AS IDENTITY,
        began timestamptz NOT NULL,
        PRIMARY KEY (company_id, mark_id)
    );
END
$$;
COMMENT ON FUNCTION tenantcall.create_upkeep_tables(name) IS 'internal: part of create_tables()';
REVOKE ALL ON FUNCTION tenantcall.create_upkeep_tables(name) FROM PUBLIC;

-- Triggers of statements are not handed down to partitions.
CREATE FUNCTION tenantcall.guard_truncation(tables_schema name, trail name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER tenantcall_trail_truncate BEFORE TRUNCATE ON %I.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION tenantcall.trail_guard_trigger()', tables_schema, trail);
    EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER tenantcall_trail_truncate', tables_schema, trail);
END
$$;
COMMENT ON FUNCTION tenantcall.guard_truncation(name, name) IS 'internal: refuses TRUNCATE of a table of the audit trail';
REVOKE ALL ON FUNCTION tenantcall.guard_truncation(name, name) FROM PUBLIC;

CREATE FUNCTION tenantcall.create_upkeep_triggers(tables_schema name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    trail name;
BEGIN
    FOR trail IN SELECT d.relation FROM tenantcall.retention_defaults AS d WHERE d.partitioned LOOP
        EXECUTE format('CREATE TRIGGER tenantcall_trail BEFORE UPDATE OR DELETE ON %I.%I '
                       'FOR EACH ROW EXECUTE FUNCTION tenantcall.trail_guard_trigger()', tables_schema, trail);
        EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER tenantcall_trail', tables_schema, trail);
        PERFORM tenantcall.guard_truncation(tables_schema, trail);
    END LOOP;
    EXECUTE format('CREATE TRIGGER tenantcall_usage AFTER INSERT OR UPDATE ON %I.calls '
                   'FOR EACH ROW EXECUTE FUNCTION tenantcall.usage_mark_trigger()', tables_schema);
    EXECUTE format('ALTER TABLE %I.calls ENABLE ALWAYS TRIGGER tenantcall_usage', tables_schema);
END
$$;
COMMENT ON FUNCTION tenantcall.create_upkeep_triggers(name) IS 'internal: part of create_tables()';
REVOKE ALL ON FUNCTION tenantcall.create_upkeep_triggers(name) FROM PUBLIC;

-- The partitions of the trail and their times; NULL times: the default partition.
CREATE FUNCTION tenantcall.trail_partitions()
    RETURNS TABLE (parent text, partition name, from_time timestamptz, to_time timestamptz)
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET timezone = 'UTC' SET datestyle = 'ISO' AS $$
    SELECT p.relname, c.relname, b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
    FROM tenantcall.installation AS i
    JOIN pg_class AS p ON p.relnamespace = to_regnamespace(quote_ident(i.schema_name))
    JOIN tenantcall.retention_defaults AS d ON d.partitioned AND d.relation = p.relname
    JOIN pg_inherits AS h ON h.inhparent = p.oid
    JOIN pg_class AS c ON c.oid = h.inhrelid
    LEFT JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS b (bounds) ON true
    WHERE NOT h.inhdetachpending
$$;
COMMENT ON FUNCTION tenantcall.trail_partitions() IS 'internal: partitions of the audit trail';
REVOKE ALL ON FUNCTION tenantcall.trail_partitions() FROM PUBLIC;

-- Made apart and then attached: that takes a weaker lock on the trail than making it in place.
CREATE FUNCTION tenantcall.make_partition(parent name, month timestamptz) RETURNS name
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    part name := parent || CASE WHEN isfinite(month) THEN to_char(month, '_YYYY_MM') ELSE '_default' END;
BEGIN
    PERFORM tenantcall.prepare_ddl();
    EXECUTE format('CREATE TABLE %1$I.%2$I (LIKE %1$I.%3$I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)%4$s', tables_schema, part, parent,
                   CASE WHEN parent = 'refusals' THEN ' WITH (fillfactor = 50)' END);
    EXECUTE format('ALTER TABLE %I.%I OWNER TO %I', tables_schema, part,
                   (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = to_regclass(format('%I.%I', tables_schema, parent))));
    EXECUTE format('REVOKE ALL ON %I.%I FROM PUBLIC', tables_schema, part);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I.%I TO tenantcall_owner', tables_schema, part);
    EXECUTE format('ALTER TABLE %1$I.%2$I ATTACH PARTITION %1$I.%3$I %4$s', tables_schema, parent, part,
                   CASE WHEN isfinite(month) THEN format('FOR VALUES FROM (%L) TO (%L)', month, month + interval '1 month')
                        ELSE 'DEFAULT' END);
    IF EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgrelid = to_regclass(format('%I.%I', tables_schema, part))
               AND t.tgname = 'tenantcall_trail' AND t.tgenabled <> 'A') THEN
        EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER tenantcall_trail', tables_schema, part);
    END IF;
    PERFORM tenantcall.guard_truncation(tables_schema, part);
    RETURN part;
END
$$;
COMMENT ON FUNCTION tenantcall.make_partition(name, timestamptz) IS 'internal: makes one partition of the audit trail; of month infinity the default one';
REVOKE ALL ON FUNCTION tenantcall.make_partition(name, timestamptz) FROM PUBLIC;

-- Months without a partition.  One whose rows went to the default partition already stays there.
CREATE FUNCTION tenantcall.missing_partitions(months integer) RETURNS TABLE (parent text, month timestamptz)
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    trail record;
    in_default boolean;
BEGIN
    FOR trail IN SELECT d.relation, d.time_column,
                        EXISTS (SELECT FROM tenantcall.trail_partitions() AS p WHERE p.parent = d.relation AND p.from_time IS NULL) AS has_default
                 FROM tenantcall.retention_defaults AS d WHERE d.partitioned ORDER BY d.relation LOOP
        parent := trail.relation;
        FOR month IN SELECT m FROM generate_series(date_trunc('month', now()),
                                                   date_trunc('month', now()) + make_interval(months => months - 1), '1 month') AS m
                     WHERE NOT EXISTS (SELECT FROM tenantcall.trail_partitions() AS p WHERE p.parent = trail.relation
                                       AND p.from_time < m + interval '1 month' AND p.to_time > m) LOOP
            in_default := false;
            IF trail.has_default THEN
                EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.%I WHERE %3$I >= $1 AND %3$I < $1 + interval ''1 month'')',
                               tables_schema, trail.relation || '_default', trail.time_column) INTO in_default USING month;
            END IF;
            CONTINUE WHEN in_default;
            RETURN NEXT;
        END LOOP;
        CONTINUE WHEN trail.has_default;
        month := 'infinity';
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.missing_partitions(integer) IS 'internal: months of the audit trail without a partition';
REVOKE ALL ON FUNCTION tenantcall.missing_partitions(integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.create_partitions(months integer DEFAULT 3) RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    made integer;
BEGIN
    IF months IS NULL OR months NOT BETWEEN 1 AND 120 THEN
        RAISE EXCEPTION 'months must be between 1 and 120' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM tenantcall.prepare_ddl();
    SELECT count(*) FILTER (WHERE p.name NOT LIKE '%\_default') INTO made
    FROM (SELECT tenantcall.make_partition(m.parent::name, m.month) AS name FROM tenantcall.missing_partitions(months) AS m OFFSET 0) AS p;
    RETURN made;
END
$$;
COMMENT ON FUNCTION tenantcall.create_partitions(integer) IS 'makes missing partitions of the audit trail for this month and the next ones; returns how many; superuser';
REVOKE ALL ON FUNCTION tenantcall.create_partitions(integer) FROM PUBLIC;

-- Why a partition that is old enough has to stay for now; NULL: it may go.
CREATE FUNCTION tenantcall.partition_needed(parent text, from_time timestamptz, to_time timestamptz) RETURNS text
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    needed boolean := false;
BEGIN
    IF parent = 'call_events' THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %1$I.companies AS k JOIN %1$I.calls AS c ON c.company_id = k.company_id '
                       'AND c.created_at >= $1 AND c.created_at < $2 WHERE c.ended_at IS NULL AND c.analyzed_at IS NULL '
                       'AND tenantcall.can_transition(''call'', c.status, ''abandoned''))', tables_schema)
            INTO needed USING from_time, to_time;
        RETURN CASE WHEN needed THEN 'open_calls' END;
    ELSIF parent = 'refusals' THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %1$I.companies AS k LEFT JOIN %1$I.usage_state AS s USING (company_id) '
                       'WHERE k.created_at < $1 AND (s.closed_until::timestamp AT TIME ZONE k.time_zone >= $1) IS NOT TRUE)', tables_schema)
            INTO needed USING to_time;
        RETURN CASE WHEN needed THEN 'usage_not_rolled_up' END;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tenantcall.partition_needed(text, timestamptz, timestamptz) IS 'internal: why an old partition has to stay for now';
REVOKE ALL ON FUNCTION tenantcall.partition_needed(text, timestamptz, timestamptz) FROM PUBLIC;

-- Waits for each lock for a moment only, since others queue up behind whoever waits.
CREATE FUNCTION tenantcall.change_partitions(months integer, max_changes integer)
    RETURNS TABLE (relation text, partition text, action text)
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    changes integer := 0;
    work record;
BEGIN
    PERFORM tenantcall.prepare_ddl();
    FOR work IN SELECT 1 AS step, m.parent, NULL::name AS partition, m.month AS from_time, NULL::timestamptz AS to_time, NULL::text AS needed
                FROM tenantcall.missing_partitions(months) AS m
                UNION ALL
                SELECT 2, p.parent, p.partition, p.from_time, p.to_time, tenantcall.partition_needed(p.parent, p.from_time, p.to_time)
                FROM tenantcall.trail_partitions() AS p JOIN tenantcall.retentions_in_force AS r ON r.relation = p.parent
                WHERE p.to_time <= now() - r.keep
                ORDER BY step, from_time, parent LOOP
        EXIT WHEN changes >= max_changes;
        relation := work.parent;
        partition := work.partition;
        action := 'kept: ' || work.needed;
        BEGIN
            IF work.step = 1 THEN
                action := 'created';
                partition := tenantcall.make_partition(work.parent::name, work.from_time);
            ELSIF work.needed IS NULL THEN
                action := 'dropped';
                EXECUTE format('DROP TABLE %I.%I', tables_schema, work.partition);
            END IF;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            action := 'busy';
        END;
        changes := changes + (action IN ('created', 'dropped', 'busy'))::integer;
        RETURN NEXT;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.change_partitions(integer, integer) IS 'internal: see maintain_partitions()';
REVOKE ALL ON FUNCTION tenantcall.change_partitions(integer, integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.maintain_partitions(months integer DEFAULT 3, max_changes integer DEFAULT 1)
    RETURNS TABLE (relation text, partition text, action text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_maintain_partitions';
COMMENT ON FUNCTION tenantcall.maintain_partitions(integer, integer) IS 'makes the next partitions of the audit trail and drops those whose time is over, at most so many; waits for no lock longer than half a second';
REVOKE ALL ON FUNCTION tenantcall.maintain_partitions(integer, integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.expire_rows(max_rows integer DEFAULT 10000)
    RETURNS TABLE (relation text, rows_deleted bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_expire_rows';
COMMENT ON FUNCTION tenantcall.expire_rows(integer) IS 'deletes what is older than its retention and in no partition of its own, at most so many rows of each table';
REVOKE ALL ON FUNCTION tenantcall.expire_rows(integer) FROM PUBLIC;
