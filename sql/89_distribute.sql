-- 89_distribute.sql: the tables on the nodes of a Citus cluster

CREATE FUNCTION tenantcall.fill_id_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_fill_id_trigger';
COMMENT ON FUNCTION tenantcall.fill_id_trigger() IS 'internal: numbers rows that are written into a shard';
REVOKE ALL ON FUNCTION tenantcall.fill_id_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.scope_row_trigger() RETURNS trigger
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 'tc_scope_row_trigger';
COMMENT ON FUNCTION tenantcall.scope_row_trigger() IS 'internal: holds rows that Citus copies into a shard to the company entered';
REVOKE ALL ON FUNCTION tenantcall.scope_row_trigger() FROM PUBLIC;

CREATE FUNCTION tenantcall.arrive(company_id bigint, ticket text, function text, provider_call_id text) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_arrive';
COMMENT ON FUNCTION tenantcall.arrive(bigint, text, text, text) IS 'internal: what call_at_home() begins with, on the company''s node: raises on any other, and takes what another node has sent along';
REVOKE ALL ON FUNCTION tenantcall.arrive(bigint, text, text, text) FROM PUBLIC;

-- Called on the node of the company: Citus sends it there (distribute()).
CREATE FUNCTION tenantcall.call_at_home(company_id bigint, ticket text, function text, arguments text[],
                                        provider_call_id text DEFAULT NULL)
    RETURNS SETOF text
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE ROWS 1
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    target pg_proc%ROWTYPE;
    list text;
BEGIN
    SELECT p.* INTO target FROM pg_proc AS p
    WHERE p.oid = to_regprocedure(function) AND p.pronamespace = 'tenantcall'::regnamespace AND p.prokind = 'f'
        AND p.proname <> 'call_at_home';
    IF NOT FOUND OR cardinality(arguments) IS DISTINCT FROM target.pronargs::integer THEN
        RAISE EXCEPTION 'no function of tenantcall fits "%"', function
            USING ERRCODE = 'undefined_function', DETAIL = 'All arguments are given, those with defaults as well.',
                  HINT = 'Name it with the types of its arguments, as in tenantcall.allow(text,bigint).';
    END IF;
    PERFORM tenantcall.arrive(company_id, ticket, function, provider_call_id);
    SELECT string_agg(format('%L::%s', a.value, a.type::regtype), ', ' ORDER BY a.position) INTO list
    FROM unnest(arguments, target.proargtypes::oid[]) WITH ORDINALITY AS a (value, type, position);
    RETURN QUERY EXECUTE format('SELECT r::text FROM tenantcall.%I(%s) AS r', target.proname, list);
END
$$;
COMMENT ON FUNCTION tenantcall.call_at_home(bigint, text, text, text[], text) IS 'calls a function of tenantcall on the node where the company is at home, in the caller''s name and transaction; its rows as text';
REVOKE ALL ON FUNCTION tenantcall.call_at_home(bigint, text, text, text[], text) FROM PUBLIC;

-- Raises unless distribute() can do its work here and now.
CREATE FUNCTION tenantcall.require_citus() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    coordinator boolean;
    workers bigint;
    faulty text;
BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'only a superuser can distribute the tables of tenantcall' USING ERRCODE = 'insufficient_privilege';
    ELSIF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RAISE EXCEPTION 'the extension "citus" does not exist in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = CASE WHEN EXISTS (SELECT FROM pg_available_extensions WHERE name = 'citus')
                                THEN 'It is installed on this server.' ELSE 'It is not installed on this server either.' END,
                  HINT = 'Tenantcall works on one server without it. Else put citus first into shared_preload_libraries, on every '
                         'node, CREATE EXTENSION citus, and add the nodes with citus_add_node().';
    ELSIF NOT EXISTS (SELECT FROM tenantcall.installation) THEN
        RAISE EXCEPTION 'the tables of tenantcall do not exist in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'SELECT tenantcall.create_tables() first, on the coordinator.';
    END IF;
    EXECUTE 'SELECT groupid = 0 FROM pg_dist_local_group' INTO coordinator;
    EXECUTE 'SELECT count(*) FROM pg_dist_node WHERE noderole = ''primary'' AND shouldhaveshards' INTO workers;
    IF NOT coordinator OR workers = 0 THEN
        RAISE EXCEPTION 'the tables are distributed from the coordinator of a cluster with workers'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  DETAIL = CASE WHEN coordinator THEN 'No node that is to have shards was added.' ELSE 'This node is a worker.' END,
                  HINT = 'On the coordinator: SELECT citus_set_coordinator_host(…), then citus_add_node(…) for each worker.';
    END IF;
    EXECUTE 'SELECT string_agg(format(''%s:%s %s'', n.nodename, n.nodeport, r.result), ''; '') '
            'FROM run_command_on_workers($c$SELECT format(''%s, preloaded %s'', tenantcall.version(), tenantcall.library_preloaded())$c$) AS r '
            'JOIN pg_dist_node AS n USING (nodename, nodeport) WHERE r.result IS DISTINCT FROM format(''%s, preloaded t'', $1)'
        INTO faulty USING tenantcall.version();
    IF faulty IS NOT NULL THEN
        RAISE EXCEPTION 'not every node has this version of tenantcall' USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = faulty, HINT = 'Install it on each node, with shared_preload_libraries = ''citus,tenantcall'' and the same key file.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_citus() IS 'internal: raises unless distribute() can work';
REVOKE ALL ON FUNCTION tenantcall.require_citus() FROM PUBLIC;

-- Takes foreign keys away and gives them back.  Citus refuses ON DELETE SET NULL where the company
-- is part of the key: there NO ACTION takes its place.  Branches lose theirs to companies: to write
-- them Citus would want INSERT on companies, which applications must not have; whoever writes them
-- has entered a company that exists.
CREATE FUNCTION tenantcall.detach_foreign_keys(tables_schema name) RETURNS text[]
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    again text[] := '{}';
    foreign_key record;
BEGIN
    FOR foreign_key IN SELECT c.conrelid::regclass AS rel, c.conname, pg_get_constraintdef(c.oid) AS def FROM pg_constraint AS c
                       WHERE c.contype = 'f' AND c.conparentid = 0 AND c.connamespace = to_regnamespace(quote_ident(tables_schema))
                       ORDER BY c.oid LOOP
        again := again || CASE WHEN NOT (foreign_key.rel = to_regclass(format('%I.branches', tables_schema))
                                         AND foreign_key.def LIKE '%companies%') THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', foreign_key.rel, foreign_key.conname,
                                 regexp_replace(foreign_key.def, ' ON DELETE SET NULL( \([^)]*\))?', '')) END;
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', foreign_key.rel, foreign_key.conname);
    END LOOP;
    RETURN again;
END
$$;
COMMENT ON FUNCTION tenantcall.detach_foreign_keys(name) IS 'internal: part of distribute()';
REVOKE ALL ON FUNCTION tenantcall.detach_foreign_keys(name) FROM PUBLIC;

-- Rows that the library writes into shards are numbered by a trigger.  Another one looks at the
-- company of every row: what Citus copies into a shard of its own node passes no policy.
CREATE FUNCTION tenantcall.create_shard_triggers(tables_schema name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    numbered record;
    scoped record;
BEGIN
    FOR numbered IN SELECT c.oid::regclass AS rel, a.attname, pg_get_serial_sequence(c.oid::regclass::text, a.attname) AS sequence
                    FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                    WHERE c.relnamespace = to_regnamespace(quote_ident(tables_schema)) AND c.relkind IN ('r', 'p')
                        AND NOT c.relispartition AND pg_get_serial_sequence(c.oid::regclass::text, a.attname) IS NOT NULL LOOP
        EXECUTE format('CREATE TRIGGER tenantcall_id BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.%I IS NULL) '
                       'EXECUTE FUNCTION tenantcall.fill_id_trigger(%L, %L)', numbered.rel, numbered.attname, numbered.attname,
                       numbered.sequence);
    END LOOP;
    FOR scoped IN SELECT c.oid::regclass AS rel FROM pg_class AS c JOIN tenantcall.scope_registry AS r ON r.rel = c.oid
                  WHERE c.relnamespace = to_regnamespace(quote_ident(tables_schema)) AND NOT c.relispartition LOOP
        EXECUTE format('CREATE TRIGGER tenantcall_row BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION tenantcall.scope_row_trigger()',
                       scoped.rel);
    END LOOP;
    FOR scoped IN SELECT t.tgrelid::regclass AS rel, t.tgname FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
                  WHERE c.relnamespace = to_regnamespace(quote_ident(tables_schema)) AND t.tgname IN ('tenantcall_row', 'tenantcall_id')
                  ORDER BY c.relispartition LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER %I', scoped.rel, scoped.tgname);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.create_shard_triggers(name) IS 'internal: part of distribute()';
REVOKE ALL ON FUNCTION tenantcall.create_shard_triggers(name) FROM PUBLIC;

-- Citus connects to other nodes as the owner of the tables, and nobody may log in as tenantcall_owner:
-- it gives the tables to the owner of the extension, and is bound by row security as before.
CREATE FUNCTION tenantcall.hand_over_tables(tables_schema name) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    heir name := (SELECT pg_get_userbyid(n.nspowner) FROM pg_namespace AS n WHERE n.nspname = 'tenantcall');
    rel regclass;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', tables_schema, heir);
    FOR rel IN SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(quote_ident(tables_schema)) AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('ALTER TABLE %s OWNER TO %I', rel, heir);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO tenantcall_owner', rel);
    END LOOP;
END
$$;
COMMENT ON FUNCTION tenantcall.hand_over_tables(name) IS 'internal: part of distribute()';
REVOKE ALL ON FUNCTION tenantcall.hand_over_tables(name) FROM PUBLIC;

-- The library takes Citus's lock on a group of shards itself (node.c): is it still the same?
CREATE FUNCTION tenantcall.require_shard_lock(calls text) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    same boolean;
BEGIN
    EXECUTE 'SELECT lock_shard_metadata(5, ARRAY[min(shardid)]) FROM pg_dist_shard WHERE logicalrelid = $1::regclass' USING calls;
    EXECUTE 'SELECT EXISTS (SELECT 1 FROM pg_locks AS l, pg_dist_partition AS t WHERE t.logicalrelid = $1::regclass AND l.pid = pg_backend_pid() '
            'AND l.locktype = ''advisory'' AND l.objsubid = 8 AND l.classid::bigint = 0 AND l.objid::bigint = t.colocationid)'
        INTO same USING calls;
    IF NOT same THEN
        RAISE EXCEPTION 'this version of Citus locks shards in another way' USING ERRCODE = 'feature_not_supported',
            DETAIL = 'What is written during a move of a shard could be lost.', HINT = 'Citus 13.2 is known to work.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_shard_lock(text) IS 'internal: part of distribute()';
REVOKE ALL ON FUNCTION tenantcall.require_shard_lock(text) FROM PUBLIC;

-- Where the nodes are: what is ordered there was never ordered elsewhere.  The coordinator is elected.
CREATE FUNCTION tenantcall.note_places() RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    failed text;
BEGIN
    EXECUTE 'SELECT string_agg(format(''%s:%s %s'', nodename, nodeport, result), ''; '') FROM run_command_on_workers($1) WHERE NOT success'
        INTO failed USING format('WITH home AS (INSERT INTO tenantcall.outbox_home (place) VALUES (tenantcall.outbox_place()) ON CONFLICT DO NOTHING) '
                                 'SELECT tenantcall.note_election(0, NULL, %s, 1, %L)', tenantcall.outbox_place(), clock_timestamp());
    PERFORM tenantcall.note_election(0, NULL, tenantcall.outbox_place(), 1, clock_timestamp());
    IF failed IS NOT NULL THEN
        RAISE EXCEPTION 'the nodes cannot note where they are' USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed;
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.note_places() IS 'internal: part of distribute()';
REVOKE ALL ON FUNCTION tenantcall.note_places() FROM PUBLIC;

CREATE FUNCTION tenantcall.distribute(shards integer DEFAULT 32) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET client_min_messages = warning AS $$
DECLARE
    tables_schema name;
    again text[];
    rel regclass;
    statement text;
    filled boolean;
BEGIN
    IF shards IS NULL OR shards NOT BETWEEN 1 AND 1024 THEN
        RAISE EXCEPTION 'shards must be between 1 and 1024' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM tenantcall.require_citus();
    SELECT i.schema_name INTO tables_schema FROM tenantcall.installation AS i;
    EXECUTE 'SELECT logicalrelid FROM pg_dist_partition WHERE logicalrelid = to_regclass($1)' INTO rel USING format('%I.calls', tables_schema);
    IF rel IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I.companies)', tables_schema) INTO filled;
    IF filled THEN
        RAISE EXCEPTION 'the tables of tenantcall are distributed before there are companies'
            USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = 'Their rows would pass the triggers of the shards once more.',
                  HINT = 'Distribute the tables of a new database, and create companies and take in what they are to keep there.';
    END IF;
    PERFORM tenantcall.prepare_ddl();
    again := tenantcall.detach_foreign_keys(tables_schema);
    PERFORM tenantcall.create_shard_triggers(tables_schema), tenantcall.hand_over_tables(tables_schema);
    FOREACH statement IN ARRAY ARRAY['companies', 'branches', 'phone_numbers', 'agents'] LOOP
        EXECUTE format('SELECT create_reference_table(%L)', format('%I.%I', tables_schema, statement));
    END LOOP;
    FOREACH statement IN ARRAY ARRAY['installation', 'secrets', 'rate_policies', 'lifecycle_states', 'lifecycle_transitions',
                                     'disconnection_reasons', 'concurrency_policies', 'outbox_pause'] LOOP
        EXECUTE format('SELECT create_reference_table(%L)', format('tenantcall.%I', statement));
    END LOOP;
    EXECUTE format('SELECT create_distributed_table(%L, ''company_id'', colocate_with => ''none'', shard_count => %s)',
                   format('%I.calls', tables_schema), shards);
    FOR rel IN EXECUTE 'SELECT c.oid FROM pg_class AS c WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relkind IN (''r'', ''p'') '
                       'AND NOT c.relispartition AND NOT EXISTS (SELECT FROM pg_dist_partition AS p WHERE p.logicalrelid = c.oid) ORDER BY c.oid'
               USING tables_schema LOOP
        EXECUTE format('SELECT create_distributed_table(%L, ''company_id'', colocate_with => %L)', rel, format('%I.calls', tables_schema));
    END LOOP;
    EXECUTE format('SELECT create_distributed_table(''tenantcall.outbox_due'', ''company_id'', colocate_with => %L)',
                   format('%I.calls', tables_schema));
    -- each node answers for the orders of its shards: see outbox_home
    PERFORM tenantcall.note_places();
    FOREACH statement IN ARRAY array_remove(again, NULL) LOOP
        EXECUTE statement;
    END LOOP;
    PERFORM tenantcall.require_shard_lock(format('%I.calls', tables_schema));
    EXECUTE format('SELECT create_distributed_function(''tenantcall.call_at_home(bigint,text,text,text[],text)'', ''company_id'', '
                   'colocate_with => %L, force_delegation => true)', format('%I.calls', tables_schema));
    EXECUTE format('ALTER DATABASE %I SET citus.propagate_set_commands = ''local''', current_database());
END
$$;
COMMENT ON FUNCTION tenantcall.distribute(integer) IS 'distributes the tables of create_tables() over a Citus cluster, by company; superuser, on the coordinator; then distribute_roles()';
REVOKE ALL ON FUNCTION tenantcall.distribute(integer) FROM PUBLIC;

-- Citus makes roles on all nodes, and grants on tables, but no grants on members of extensions.
CREATE FUNCTION tenantcall.distribute_roles() RETURNS integer
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    given record;
    failed text;
    done integer := 0;
BEGIN
    PERFORM tenantcall.require_citus();
    FOR given IN SELECT k.role, k.kind FROM tenantcall.role_kinds AS k JOIN pg_roles AS r ON r.rolname = k.role ORDER BY 1, 2 LOOP
        EXECUTE 'SELECT string_agg(format(''%s:%s %s'', nodename, nodeport, result), ''; '') FROM run_command_on_workers($1) WHERE NOT success'
            INTO failed USING format('SET citus.enable_ddl_propagation = off; SELECT tenantcall.%I(%L)', 'grant_' || given.kind, given.role);
        IF failed IS NOT NULL THEN
            RAISE EXCEPTION 'role "%" could not be given its rights on every node', given.role
                USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = failed,
                      HINT = 'The role must be there: commit CREATE ROLE first, or create it on the nodes.';
        END IF;
        done := done + 1;
    END LOOP;
    RETURN done;
END
$$;
COMMENT ON FUNCTION tenantcall.distribute_roles() IS 'gives the roles of grant_app(), grant_gateway() and grant_admin() their rights on every node of a Citus cluster; returns how many; superuser, on the coordinator, after grants were committed';
REVOKE ALL ON FUNCTION tenantcall.distribute_roles() FROM PUBLIC;

-- Where a company is at home.
CREATE FUNCTION tenantcall.company_node(company_id bigint)
    RETURNS TABLE (node_name text, node_port integer, is_here boolean)
    LANGUAGE plpgsql STABLE STRICT PARALLEL UNSAFE ROWS 1
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    calls text := (SELECT format('%I.calls', i.schema_name) FROM tenantcall.installation AS i);
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') OR calls IS NULL THEN
        is_here := true;
        RETURN NEXT;
        RETURN;
    END IF;
    EXECUTE 'SELECT n.nodename, n.nodeport, n.groupid = (SELECT groupid FROM pg_dist_local_group) '
            'FROM pg_dist_partition AS t, get_shard_id_for_distribution_column(t.logicalrelid, $2) AS s (shardid) '
            'JOIN pg_dist_placement AS p USING (shardid) JOIN pg_dist_node AS n USING (groupid) '
            'WHERE t.logicalrelid = to_regclass($1) AND n.noderole = ''primary'''
        INTO node_name, node_port, is_here USING calls, company_node.company_id;
    is_here := coalesce(is_here, true);
    RETURN NEXT;
END
$$;
COMMENT ON FUNCTION tenantcall.company_node(bigint) IS 'the node of a Citus cluster where a company is at home; without Citus no name, and here';
REVOKE ALL ON FUNCTION tenantcall.company_node(bigint) FROM PUBLIC;
