-- 90_roles.sql: who may do what

-- Which kinds of rights a role was given: create_tables() gives them again for its tables.
CREATE TABLE tenantcall.role_kinds
(
    role name NOT NULL,
    kind text NOT NULL CHECK (kind IN ('app', 'gateway', 'admin')),
    PRIMARY KEY (role, kind)
);
COMMENT ON TABLE tenantcall.role_kinds IS 'roles that were given rights by grant_app(), grant_gateway() and grant_admin()';
REVOKE ALL ON tenantcall.role_kinds FROM PUBLIC;
CREATE TRIGGER tenantcall_invalidate AFTER INSERT OR UPDATE OR DELETE ON tenantcall.role_kinds
    FOR EACH ROW EXECUTE FUNCTION tenantcall.invalidate_cache_trigger();
ALTER TABLE tenantcall.role_kinds ENABLE ALWAYS TRIGGER tenantcall_invalidate;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.role_kinds', '');

-- The functions that each kind may call: one row for all overloads of a name.
CREATE VIEW tenantcall.role_functions AS
    SELECT kind, function
    FROM (VALUES
        ('app', ARRAY['enter_token', 'company_lock', 'try_company_lock', 'allow', 'take', 'take_or_fail', 'take_all', 'refund', 'peek',
                      'rate_headers', 'rate_buckets', 'can_transition', 'next_states', 'select_service',
                      'slot_cache_key', 'alternatives_cache_key', 'call_context', 'call_timeline', 'company_usage',
                      'forget_caller', 'caller_calls']),
        ('app', ARRAY['call_lease_stats', 'rate_policy_names']),
        ('monitor', ARRAY['rate_policy_names']),
        ('app', ARRAY['arrive', 'call_at_home', 'company_node', 'table_here']),
        ('admin', ARRAY['elect_node', 'elected_node']),
        ('monitor', ARRAY['elected_node']),
        ('app', ARRAY['stat_counts', 'stat_last', 'stats_reset', 'company_stats']),
        ('admin', ARRAY['reset_stats']),
        ('admin', ARRAY['health', 'report']),
        ('monitor', ARRAY['health', 'stat_counts', 'stat_last', 'stats_reset', 'company_stats', 'rate_buckets', 'rate_table',
                          'call_lease_stats', 'outbox_counts', 'slot_stats', 'http_accounts']),
        ('app', ARRAY['hold_slot', 'release_hold', 'book', 'booking_result', 'cancel_booking', 'reschedule_booking', 'outbox_counts']),
        ('app', ARRAY['available_slots', 'alternative_slots', 'invalidate_slots', 'slot_stats', 'plain_name']),
        ('gateway', ARRAY['enter', 'enter_uuid', 'enter_phone', 'resolve_phone', 'sign_token', 'take_for', 'allow_for',
                          'answer_inbound_call', 'ingest_retell', 'accept_function_call',
                          'finish_function_call', 'replay_quarantined', 'advance_call']),
        ('gateway', ARRAY['acquire_call_lease', 'bind_call_lease', 'release_call_lease']),
        ('gateway', ARRAY['ingest_calcom', 'expire_holds']),
        ('admin', ARRAY['enter', 'enter_uuid', 'enter_phone', 'resolve_phone', 'create_company',
                        'set_company_status', 'assign_number', 'release_number', 'move_number', 'assign_agent',
                        'release_agent', 'set_credential', 'assign_credential', 'set_webhook_key', 'drop_webhook_key',
                        'set_rate_policy', 'drop_rate_policy', 'reset_bucket', 'rate_table', 'reset_rate_stats', 'set_lifecycle_state',
                        'drop_lifecycle_state', 'set_transition', 'require_state', 'replay_quarantined',
                        'stuck_calls', 'close_stuck_calls', 'export_company', 'delete_company',
                        'maintain_partitions', 'expire_rows', 'roll_up_usage', 'unmapped_reasons']),
        ('admin', ARRAY['set_concurrency_policy', 'drop_concurrency_policy', 'release_call_lease', 'expire_call_leases']),
        ('admin', ARRAY['expire_holds', 'pause_outbox', 'resume_outbox', 'replay_outbox']),
        ('admin', ARRAY['http_accounts', 'set_breaker', 'reset_http_stats', 'check_credential', 'reset_slot_stats']),
        ('admin', ARRAY['check_isolation', 'audit_role_name', 'audit_function_name', 'audit_reach', 'library_preloaded', 'audit_registry',
                        'audit_row_security', 'audit_parts', 'cluster_tables', 'tables_schema', 'audit_columns', 'audit_relatives', 'audit_unscoped', 'audit_owners',
                        'audit_privileges', 'audit_internal', 'audit_unique', 'audit_foreign_keys', 'audit_orphans',
                        'audit_bypasses', 'audit_readers', 'audit_views', 'audit_definers', 'audit_functions',
                        'audit_strangers', 'audit_event_triggers', 'audit_roles', 'audit_other_roles', 'audit_unnoted_roles',
                        'audit_role_functions', 'audit_creation', 'audit_server_access', 'audit_settings',
                        'audit_setting_severity', 'audit_library', 'audit_publications', 'audit_default_privileges']),
        ('admin', ARRAY['audit_triggers']),
        ('admin', ARRAY['run_maintenance', 'schedule_maintenance', 'unschedule_maintenance', 'maintenance_status',
                        'cron_database', 'expire_unplaced_rows', 'reap_outbox']),
        ('owner', ARRAY['track_lifecycle', 'untrack_lifecycle', 'require_trackable', 'drop_lifecycle_trigger',
                        'lifecycle_verify', 'lifecycle_trigger'])
    ) AS f (kind, names), unnest(names) AS function;
COMMENT ON VIEW tenantcall.role_functions IS 'functions that app, gateway and admin roles may call; gateways and admins have an app''s as well; owner: see grant_tracking(); monitor: pg_monitor';
REVOKE ALL ON tenantcall.role_functions FROM PUBLIC;

-- Their privileges on the extension's own tables and views.  What is granted beyond is reported
-- by check_isolation().
CREATE VIEW tenantcall.role_relations AS
    SELECT kind, relation, column_name, privileges
    FROM (VALUES
        ('public', ARRAY['SELECT'], NULL, ARRAY['disconnection_reason_defaults', 'disconnection_reasons']),
        ('app', ARRAY['SELECT'], NULL, ARRAY['stat_rate_limits', 'stat_call_leases', 'stat_outbox', 'stat_cache',
                                             'slot_strategy_defaults']),
        ('app', ARRAY['SELECT'], 'schema_name', ARRAY['installation']),
        ('admin', ARRAY['SELECT'], NULL, ARRAY['quarantined', 'unplaced_refusals', 'disconnection_reasons_in_force', 'retention_defaults', 'retentions_in_force', 'scoped_tables', 'tracked_tables', 'lifecycles',
                                               'lifecycle_states_in_force', 'lifecycle_transitions_in_force',
                                               'lifecycle_state_defaults', 'lifecycle_transition_defaults',
                                               'isolation_checks', 'audit_tables', 'audit_references', 'installation',
                                               'role_kinds', 'role_functions', 'role_relations']),
        ('admin', ARRAY['SELECT'], NULL, ARRAY['stat_http', 'stat_http_companies']),
        ('app', ARRAY['SELECT'], NULL, ARRAY['stat_companies', 'stat_calls', 'stat_context']),
        ('monitor', ARRAY['SELECT'], NULL, ARRAY['stat_companies', 'stat_calls', 'stat_context', 'stat_rate_limits', 'stat_cache',
                                                 'stat_http', 'stat_http_companies', 'stat_outbox', 'stat_call_leases']),
        ('admin', ARRAY['SELECT'], NULL, ARRAY['maintenance_job_defaults', 'maintenance_jobs_in_force', 'maintenance_runs', 'maintenance_schedule']),
        ('admin', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], NULL, ARRAY['maintenance_jobs']),
        ('admin', ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'], NULL,
         ARRAY['disconnection_reasons', 'lifecycle_states', 'lifecycle_transitions', 'retentions'])
    ) AS r (kind, privileges, column_name, names), unnest(names) AS relation;
COMMENT ON VIEW tenantcall.role_relations IS 'privileges of app, gateway and admin roles, and of pg_monitor (monitor), on tables and views of tenantcall; gateways and admins have an app''s as well';
REVOKE ALL ON tenantcall.role_relations FROM PUBLIC;

CREATE VIEW tenantcall.quarantined AS
    SELECT quarantine_id, provider, kind, event, provider_call_id, number, agent, started_at, received_at,
           verified_for, outcome, reason, detail, octet_length(body) AS body_bytes, deliveries, quarantined_at,
           replayed_at, replay_outcome
    FROM tenantcall.quarantine;
COMMENT ON VIEW tenantcall.quarantined IS 'what is quarantined and why, without the content; for admins';
REVOKE ALL ON tenantcall.quarantined FROM PUBLIC;

-- Refuses roles that row security does not bind, or that can become one that it does not bind.
CREATE FUNCTION tenantcall.require_bound_role(role name) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    unbound record;
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role
            USING ERRCODE = 'undefined_object', HINT = 'Make it with CREATE ROLE.';
    END IF;
    SELECT r.rolname, CASE WHEN r.rolsuper THEN 'is a superuser'
                           WHEN r.rolbypassrls THEN 'has BYPASSRLS'
                           WHEN r.rolcreaterole THEN 'has CREATEROLE, and can make itself a member of others'
                           WHEN r.rolreplication THEN 'has REPLICATION, and can copy the whole server'
                           WHEN r.rolname = 'tenantcall_owner' THEN 'owns the tables of the tenants'
                           WHEN r.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program',
                                              'pg_read_server_files', 'pg_write_server_files')
                               THEN 'reaches beyond the grants of tenantcall'
                           ELSE 'owns ' || (SELECT min(s.rel::text) FROM tenantcall.scope_registry AS s
                                            JOIN pg_class AS c ON c.oid = s.rel WHERE c.relowner = r.oid) END AS why
    INTO unbound
    FROM pg_roles AS r
    WHERE pg_has_role(role, r.oid, 'MEMBER')
      AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolreplication
           OR r.rolname IN ('tenantcall_owner', 'pg_read_all_data', 'pg_write_all_data', 'pg_execute_server_program',
                            'pg_read_server_files', 'pg_write_server_files')
           OR EXISTS (SELECT FROM tenantcall.scope_registry AS s JOIN pg_class AS c ON c.oid = s.rel
                      WHERE c.relowner = r.oid))
    ORDER BY r.rolname <> role, r.rolname
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'role "%" cannot be held to one company', role
            USING ERRCODE = 'invalid_grant_operation',
                  DETAIL = CASE WHEN unbound.rolname = role THEN format('It %s.', unbound.why)
                                ELSE format('It can become role "%s", which %s.', unbound.rolname, unbound.why) END,
                  HINT = CASE WHEN unbound.rolname <> role THEN format('REVOKE %I FROM %I, or name another role.', unbound.rolname, role)
                              WHEN unbound.why LIKE 'owns %' THEN 'Give the tables to a role that nobody logs in as, or name another role.'
                              WHEN unbound.why LIKE 'reaches %' THEN 'Name another role.'
                              ELSE format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOREPLICATION, or name another role.', role) END;
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_bound_role(name) IS 'internal: refuses a role that row security does not bind';
REVOKE ALL ON FUNCTION tenantcall.require_bound_role(name) FROM PUBLIC;

-- Grants the functions of a kind.
CREATE FUNCTION tenantcall.grant_functions(role name, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    wanted record;
    signature text;
BEGIN
    FOR wanted IN SELECT f.function FROM tenantcall.role_functions AS f WHERE f.kind = grant_functions.kind LOOP
        FOR signature IN SELECT p.oid::regprocedure::text FROM pg_proc AS p
                         WHERE p.pronamespace = 'tenantcall'::regnamespace AND p.proname = wanted.function LOOP
            EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', signature, role);
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.grant_functions(name, text) IS 'internal: grants the functions of a kind of role';
REVOKE ALL ON FUNCTION tenantcall.grant_functions(name, text) FROM PUBLIC;

-- Grants what every kind has on the tables of the tenants, where these exist.
CREATE FUNCTION tenantcall.grant_tables(role name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    rel record;
BEGIN
    IF tables_schema IS NULL THEN
        RETURN;
    END IF;
    PERFORM tenantcall.prepare_ddl();
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', tables_schema, role);
    FOR rel IN SELECT c.relname, c.relname IN ('branches', 'services', 'branch_services', 'service_synonyms', 'opening_hours', 'holidays', 'slot_strategies', 'customers') AS writable
               FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(quote_ident(tables_schema))
               AND c.relkind IN ('r', 'p') AND NOT c.relispartition LOOP
        EXECUTE format('GRANT %s ON %I.%I TO %I', CASE WHEN rel.writable THEN 'SELECT, INSERT, UPDATE, DELETE' ELSE 'SELECT' END,
                       tables_schema, rel.relname, role);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.grant_tables(name) IS 'internal: grants what every kind of role has on the tables of the tenants';
REVOKE ALL ON FUNCTION tenantcall.grant_tables(name) FROM PUBLIC;

CREATE FUNCTION tenantcall.grant_kind(role name, kind text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    own record;
BEGIN
    PERFORM tenantcall.require_bound_role(role);
    PERFORM tenantcall.grant_functions(role, 'app');
    PERFORM tenantcall.grant_functions(role, kind);
    PERFORM tenantcall.grant_tables(role);
    FOR own IN SELECT r.relation, r.column_name, p.privilege
               FROM tenantcall.role_relations AS r, unnest(r.privileges) AS p (privilege)
               WHERE r.kind IN ('app', grant_kind.kind) LOOP
        EXECUTE format('GRANT %s%s ON tenantcall.%I TO %I', own.privilege, ' (' || quote_ident(own.column_name) || ')',
                       own.relation, role);
    END LOOP;
    INSERT INTO tenantcall.role_kinds VALUES (grant_kind.role, grant_kind.kind) ON CONFLICT DO NOTHING;
END
$$;
COMMENT ON FUNCTION tenantcall.grant_kind(name, text) IS 'internal: gives a role the rights of a kind, and notes it';
REVOKE ALL ON FUNCTION tenantcall.grant_kind(name, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.grant_app(role name) RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, tenantcall, pg_temp
    AS $$ SELECT tenantcall.grant_kind(role, 'app') $$;
COMMENT ON FUNCTION tenantcall.grant_app(name) IS 'gives a role the rights of an application: one company at a time, by signed token; superuser';
REVOKE ALL ON FUNCTION tenantcall.grant_app(name) FROM PUBLIC;

CREATE FUNCTION tenantcall.grant_gateway(role name) RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, tenantcall, pg_temp
    AS $$ SELECT tenantcall.grant_kind(role, 'gateway') $$;
COMMENT ON FUNCTION tenantcall.grant_gateway(name) IS 'gives a role the rights of a gateway: receives the platform''s messages, enters any company, signs tokens; superuser';
REVOKE ALL ON FUNCTION tenantcall.grant_gateway(name) FROM PUBLIC;

CREATE FUNCTION tenantcall.grant_admin(role name) RETURNS void
    LANGUAGE sql VOLATILE PARALLEL UNSAFE SET search_path = pg_catalog, tenantcall, pg_temp
    AS $$ SELECT tenantcall.grant_kind(role, 'admin') $$;
COMMENT ON FUNCTION tenantcall.grant_admin(name) IS 'gives a role the rights of an administrator: directory, secrets, policies; entering a company is recorded; superuser';
REVOKE ALL ON FUNCTION tenantcall.grant_admin(name) FROM PUBLIC;

-- These functions act with the rights of whoever calls them: on tables of its own, that is.
CREATE FUNCTION tenantcall.grant_tracking(role name) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    ELSIF NOT EXISTS (SELECT FROM pg_roles AS r WHERE r.rolname = role) THEN
        RAISE EXCEPTION 'role "%" does not exist', role
            USING ERRCODE = 'undefined_object', HINT = 'Create it first, with CREATE ROLE.';
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA tenantcall TO %I', role);
    PERFORM tenantcall.grant_functions(role, 'owner');
END
$$;
COMMENT ON FUNCTION tenantcall.grant_tracking(name) IS 'lets a role give lifecycles to tables that it owns; superuser';
REVOKE ALL ON FUNCTION tenantcall.grant_tracking(name) FROM PUBLIC;

CREATE FUNCTION tenantcall.revoke_role(role name) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    spaces text := concat_ws(', ', 'tenantcall', quote_ident(tables_schema));
BEGIN
    IF role IS NULL THEN
        RAISE EXCEPTION 'argument "role" must not be NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    IF EXISTS (SELECT FROM tenantcall.maintenance_schedule AS s WHERE s.owner = revoke_role.role) THEN
        RAISE WARNING 'the jobs of maintenance in pg_cron belong to role "%"', role
            USING DETAIL = 'They fail from now on.', HINT = 'Call tenantcall.schedule_maintenance() as a superuser.';
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format('REVOKE ALL ON ALL ROUTINES IN SCHEMA tenantcall FROM %I', role);
        EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %s FROM %I', spaces, role);
        EXECUTE format('REVOKE ALL ON SCHEMA %s FROM %I', spaces, role);
    END IF;
    DELETE FROM tenantcall.role_kinds AS k WHERE k.role = revoke_role.role;
END
$$;
COMMENT ON FUNCTION tenantcall.revoke_role(name) IS 'takes back all that grant_app(), grant_gateway(), grant_admin() and grant_tracking() gave; also of a role that is gone; superuser';
REVOKE ALL ON FUNCTION tenantcall.revoke_role(name) FROM PUBLIC;

-- Whoever watches the server may read statistics and health.
DO $$
DECLARE
    own record;
BEGIN
    PERFORM tenantcall.grant_functions('pg_monitor', 'monitor');
    FOR own IN SELECT r.relation, p.privilege FROM tenantcall.role_relations AS r, unnest(r.privileges) AS p (privilege)
               WHERE r.kind = 'monitor' LOOP
        EXECUTE format('GRANT %s ON tenantcall.%I TO pg_monitor', own.privilege, own.relation);
    END LOOP;
END
$$;
