-- 67_adopt.sql: tables of former installations: upgraded, and taken over after DROP EXTENSION ... CASCADE

-- What changes the tables from one version to the next.  Filled by releases.
CREATE TABLE tenantcall.table_upgrades
(
    from_version text PRIMARY KEY,
    to_version text NOT NULL CHECK (to_version <> from_version),
    function name -- in schema tenantcall, called with the name of the tables' schema; NULL: nothing changes
);
COMMENT ON TABLE tenantcall.table_upgrades IS 'shipped: the steps of upgrade_tables()';
REVOKE ALL ON tenantcall.table_upgrades FROM PUBLIC;

-- The version stands in the schema's comment, too, which outlives the extension.
CREATE FUNCTION tenantcall.note_tables_version(schema name, version text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    INSERT INTO tenantcall.installation AS i (schema_name, version) VALUES (schema, note_tables_version.version)
        ON CONFLICT (singleton) DO UPDATE SET version = excluded.version;
    EXECUTE format('COMMENT ON SCHEMA %I IS %L', schema, 'tables of tenantcall ' || version);
END
$$;
COMMENT ON FUNCTION tenantcall.note_tables_version(name, text) IS 'internal: records schema and version of the tables';
REVOKE ALL ON FUNCTION tenantcall.note_tables_version(name, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.upgrade_tables() RETURNS text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    present tenantcall.installation;
    step tenantcall.table_upgrades;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'only a superuser can upgrade the tables of tenantcall' USING ERRCODE = 'insufficient_privilege';
    END IF;
    SELECT * INTO present FROM tenantcall.installation FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there are no tables of tenantcall'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Make them with tenantcall.create_tables().';
    END IF;
    WHILE present.version <> tenantcall.version() LOOP
        SELECT * INTO step FROM tenantcall.table_upgrades AS u WHERE u.from_version = present.version;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'tables of version % cannot be brought to version %', present.version, tenantcall.version()
                USING ERRCODE = 'object_not_in_prerequisite_state',
                      HINT = 'If they are of a newer version, install that version of tenantcall again.';
        END IF;
        IF step.function IS NOT NULL THEN
            EXECUTE format('SELECT tenantcall.%I(%L)', step.function, present.schema_name);
        END IF;
        present.version := step.to_version;
        PERFORM tenantcall.note_tables_version(present.schema_name, present.version);
    END LOOP;
    RETURN present.version;
END
$$;
COMMENT ON FUNCTION tenantcall.upgrade_tables() IS 'brings the tables of the tenants to the version of the extension, after ALTER EXTENSION tenantcall UPDATE; superuser; idempotent';
REVOKE ALL ON FUNCTION tenantcall.upgrade_tables() FROM PUBLIC;

-- Raises unless the schema is one that the extension left behind, of this version.
CREATE FUNCTION tenantcall.require_adoptable(schema name) RETURNS void
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    place oid := to_regnamespace(quote_ident(schema));
    version text := substring(obj_description(place, 'pg_namespace') FROM '^tables of tenantcall (\S+)$');
    strange text := (SELECT min(c.relname::text) FROM pg_class AS c WHERE c.relnamespace = place
                     AND c.relowner IS DISTINCT FROM to_regrole('tenantcall_owner'));
BEGIN
    IF version IS NULL OR strange IS NOT NULL
       OR (SELECT n.nspowner FROM pg_namespace AS n WHERE n.oid = place) IS DISTINCT FROM to_regrole('tenantcall_owner') THEN
        RAISE EXCEPTION 'schema "%" exists already', schema
            USING ERRCODE = 'duplicate_schema',
                  DETAIL = 'What another role put into it could act within the tables of the tenants.',
                  HINT = CASE WHEN version IS NOT NULL AND strange IS NOT NULL
                              THEN format('Relation "%s" does not belong to tenantcall_owner: move it elsewhere.', strange)
                              ELSE 'Name another one.' END;
    END IF;
    IF version <> tenantcall.version() THEN
        RAISE EXCEPTION 'the tables in schema "%" are of version %, and this is version %', schema, version, tenantcall.version()
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = format('Take them over with version %s, and update then.', version);
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_adoptable(name) IS 'internal: part of create_tables()';
REVOKE ALL ON FUNCTION tenantcall.require_adoptable(name) FROM PUBLIC;

-- Takes over tables that DROP EXTENSION ... CASCADE left without policies, defaults and triggers.  What can be found
-- out from them is written again: whose call is whose, and what is yet to be sent; the calendar is asked about it first.
CREATE FUNCTION tenantcall.adopt_tables(schema name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    rel regclass;
    part name;
BEGIN
    PERFORM tenantcall.require_adoptable(schema);
    PERFORM tenantcall.note_tables_version(schema, tenantcall.version());
    FOR rel IN SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(quote_ident(schema))
               AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY c.oid LOOP
        PERFORM tenantcall.scope_table(rel);
    END LOOP;
    PERFORM tenantcall.create_triggers();
    FOR part IN SELECT t.partition FROM tenantcall.trail_partitions() AS t LOOP
        PERFORM tenantcall.guard_truncation(schema, part);
    END LOOP;
    EXECUTE format('INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id, bound_at) '
                   'SELECT DISTINCT ON (provider, provider_call_id) provider, provider_call_id, company_id, created_at '
                   'FROM %I.calls ORDER BY provider, provider_call_id, created_at', schema);
    EXECUTE format('INSERT INTO tenantcall.outbox_due (company_id, outbox_id, credential, state, attempt, last_attempt, due_at, created_at) '
                   'SELECT o.company_id, o.outbox_id, a.credential, '
                   'CASE WHEN o.state IN (''waiting'', ''dead'') THEN o.state ELSE ''reconcile'' END, o.attempt, '
                   'o.attempt + current_setting(''tenantcall.outbox_max_attempts'')::integer, '
                   'CASE WHEN o.state IN (''waiting'', ''dead'') THEN ''infinity'' ELSE now() END, o.created_at '
                   'FROM %1$I.outbox AS o JOIN %1$I.appointments AS a USING (company_id, appointment_id) '
                   'WHERE o.finished_at IS NULL', schema);
    RAISE WARNING 'the tables in schema "%" were taken over from a former installation', schema
        USING DETAIL = 'Its secrets, quarantine, rights of roles, policies, lifecycles and other settings went with it.',
              HINT = 'Set them again, beginning with set_credential(), set_webhook_key() and grant_app(), grant_gateway(), '
                     'grant_admin(); scope tables of your own again; then see check_isolation().';
END
$$;
COMMENT ON FUNCTION tenantcall.adopt_tables(name) IS 'internal: part of create_tables()';
REVOKE ALL ON FUNCTION tenantcall.adopt_tables(name) FROM PUBLIC;
