-- 79_elected.sql: the one node of a Citus cluster that speaks to calendars

-- One row, which each node has of its own: what it was told of the newest election.  Not dumped: a
-- copy of the cluster is another one.
CREATE TABLE tenantcall.elected_nodes
(
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    node integer NOT NULL, -- Citus's number of it
    previous integer,
    place bigint NOT NULL, -- of its database, which no copy of it shares
    generation bigint NOT NULL CHECK (generation > 0),
    since timestamptz NOT NULL
);
COMMENT ON TABLE tenantcall.elected_nodes IS 'which node of a Citus cluster speaks to calendars; empty on a server by itself';
REVOKE ALL ON tenantcall.elected_nodes FROM PUBLIC;

CREATE FUNCTION tenantcall.worker_duty() RETURNS text
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_worker_duty';
COMMENT ON FUNCTION tenantcall.worker_duty() IS 'internal: what this node''s HTTP worker does about calendars';
REVOKE ALL ON FUNCTION tenantcall.worker_duty() FROM PUBLIC;

CREATE FUNCTION tenantcall.worker_has_retired(generation bigint) RETURNS boolean
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_worker_has_retired';
COMMENT ON FUNCTION tenantcall.worker_has_retired(bigint) IS 'internal: has this node, after that election, nothing under way any more?';
REVOKE ALL ON FUNCTION tenantcall.worker_has_retired(bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.wake_worker() RETURNS boolean
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_wake_worker';
COMMENT ON FUNCTION tenantcall.wake_worker() IS 'internal: another node has orders for this node''s worker';
REVOKE ALL ON FUNCTION tenantcall.wake_worker() FROM PUBLIC;

CREATE FUNCTION tenantcall.raise_slots(company_id bigint, credential text, event_type_id bigint) RETURNS boolean
    LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tc_raise_slots';
COMMENT ON FUNCTION tenantcall.raise_slots(bigint, text, bigint) IS 'internal: another node tells that a calendar has changed';
REVOKE ALL ON FUNCTION tenantcall.raise_slots(bigint, text, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.slot_answer(company_id bigint, event_type_id bigint, team_id bigint, duration integer, from_time bigint,
                                       to_time bigint, credential text, time_zone text, max_wait bigint, max_age bigint)
    RETURNS text
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_slot_answer';
COMMENT ON FUNCTION tenantcall.slot_answer(bigint, bigint, bigint, integer, bigint, bigint, text, text, bigint, bigint) IS 'internal: a calendar''s answer, for another node';
REVOKE ALL ON FUNCTION tenantcall.slot_answer(bigint, bigint, bigint, integer, bigint, bigint, text, text, bigint, bigint) FROM PUBLIC;

CREATE FUNCTION tenantcall.note_election(node integer, previous integer, place bigint, generation bigint, since timestamptz) RETURNS boolean
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    INSERT INTO tenantcall.elected_nodes AS e (node, previous, place, generation, since)
    VALUES (note_election.node, note_election.previous, note_election.place, note_election.generation, note_election.since)
    ON CONFLICT (singleton) DO UPDATE SET node = excluded.node, previous = excluded.previous, place = excluded.place,
        generation = excluded.generation, since = excluded.since
    WHERE e.generation < excluded.generation;
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tenantcall.note_election(integer, integer, bigint, bigint, timestamptz) IS 'internal: tells this node of an election, unless it knows of a newer one';
REVOKE ALL ON FUNCTION tenantcall.note_election(integer, integer, bigint, bigint, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.newest_election() RETURNS text
    LANGUAGE sql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp
    RETURN (SELECT concat_ws(' ', e.generation, e.node, e.place) FROM tenantcall.elected_nodes AS e);
COMMENT ON FUNCTION tenantcall.newest_election() IS 'internal: generation, node and place of the election that this node knows of';
REVOKE ALL ON FUNCTION tenantcall.newest_election() FROM PUBLIC;

CREATE FUNCTION tenantcall.claim_orders(node integer, generation bigint, place bigint, most integer, busy_credentials text[],
                                        lease double precision, settle double precision)
    RETURNS TABLE (company_id bigint, outbox_id bigint, credential text, attempt integer, last_attempt integer, looks boolean,
                   appointment_id bigint, kind text, key text, request text, status text, uid text, old_uid text, email text,
                   event_type_id bigint, starts_at timestamptz, ends_at timestamptz, refused boolean, sent_before boolean,
                   settled boolean, overdue boolean)
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_claim_orders';
COMMENT ON FUNCTION tenantcall.claim_orders(integer, bigint, bigint, integer, text[], double precision, double precision) IS 'internal: gives orders of this node to the elected one';
REVOKE ALL ON FUNCTION tenantcall.claim_orders(integer, bigint, bigint, integer, text[], double precision, double precision) FROM PUBLIC;

CREATE FUNCTION tenantcall.orders_due() RETURNS timestamptz
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_orders_due';
COMMENT ON FUNCTION tenantcall.orders_due() IS 'internal: when the next order of this node is due';
REVOKE ALL ON FUNCTION tenantcall.orders_due() FROM PUBLIC;

CREATE FUNCTION tenantcall.record_order(company_id bigint, outbox_id bigint, appointment_id bigint, attempt integer, kind text,
                                        sent_before boolean, next integer, delay_ms bigint, http_status integer, refusal boolean,
                                        not_sent boolean, uid text, reason text, became text)
    RETURNS boolean
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_record_order';
COMMENT ON FUNCTION tenantcall.record_order(bigint, bigint, bigint, integer, text, boolean, integer, bigint, integer, boolean, boolean, text, text, text) IS 'internal: what the elected node made of an order; false: it is locked';
REVOKE ALL ON FUNCTION tenantcall.record_order(bigint, bigint, bigint, integer, text, boolean, integer, bigint, integer, boolean, boolean, text, text, text) FROM PUBLIC;

-- Who is elected, as this node knows it; the rest of elected_node().
CREATE FUNCTION tenantcall.find_elected() RETURNS TABLE (node_name text, node_port integer, is_here boolean, generation bigint, since timestamptz, duty text)
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE ROWS 1
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') THEN
        RETURN QUERY EXECUTE 'SELECT n.nodename::text, n.nodeport, e.node = l.groupid, e.generation, e.since, tenantcall.worker_duty() '
                             'FROM tenantcall.elected_nodes AS e CROSS JOIN pg_dist_local_group AS l '
                             'LEFT JOIN pg_dist_node AS n ON n.groupid = e.node AND n.noderole = ''primary''';
    END IF;
    IF NOT FOUND THEN
        RETURN QUERY SELECT NULL::text, NULL::integer, true, NULL::bigint, NULL::timestamptz, tenantcall.worker_duty();
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.find_elected() IS 'internal: part of elected_node()';
REVOKE ALL ON FUNCTION tenantcall.find_elected() FROM PUBLIC;

CREATE FUNCTION tenantcall.elected_node() RETURNS TABLE (node_name text, node_port integer, is_here boolean, generation bigint, since timestamptz, duty text)
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_elected_node';
COMMENT ON FUNCTION tenantcall.elected_node() IS 'the node of a Citus cluster that speaks to calendars, and what this node''s HTTP worker does about them';
REVOKE ALL ON FUNCTION tenantcall.elected_node() FROM PUBLIC;

-- Asks all other active nodes one question; those that do not answer are not ok.
CREATE FUNCTION tenantcall.ask_nodes(command text) RETURNS TABLE (node_name text, node_port integer, ok boolean, answer text)
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp SET citus.node_connection_timeout = '2s' AS $$
BEGIN
    RETURN QUERY EXECUTE
        'SELECT r.* FROM (SELECT array_agg(n.nodename::text) AS names, array_agg(n.nodeport) AS ports, array_agg($1) AS commands '
        'FROM pg_dist_node AS n WHERE n.noderole = ''primary'' AND n.isactive '
        'AND n.groupid <> (SELECT l.groupid FROM pg_dist_local_group AS l) HAVING count(*) > 0) AS a '
        'CROSS JOIN LATERAL master_run_on_worker(a.names, a.ports, a.commands, true) AS r' USING command;
END
$$;
COMMENT ON FUNCTION tenantcall.ask_nodes(text) IS 'internal: part of elect_node()';
REVOKE ALL ON FUNCTION tenantcall.ask_nodes(text) FROM PUBLIC;

-- Moves the election; the rest of elect_node().  On the coordinator alone, one at a time, so that no
-- two have the same number; nodes that cannot be told learn of it from the elected one.
CREATE FUNCTION tenantcall.move_election(node_name text, node_port integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    elected tenantcall.elected_nodes%ROWTYPE;
    number integer;
    here integer;
    reply record;
    there bigint;
    newest bigint;
BEGIN
    LOCK TABLE tenantcall.elected_nodes IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO elected FROM tenantcall.elected_nodes;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the tables of tenantcall are not distributed' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'A server by itself speaks to calendars; on a Citus cluster call tenantcall.distribute().';
    END IF;
    EXECUTE 'SELECT groupid FROM pg_dist_local_group' INTO here;
    IF here <> 0 THEN
        RAISE EXCEPTION 'nodes are elected on the coordinator' USING ERRCODE = 'feature_not_supported',
            HINT = 'Connect to the coordinator of the cluster.';
    END IF;
    EXECUTE 'SELECT groupid FROM pg_dist_node WHERE nodename = $1 AND nodeport = $2 AND noderole = ''primary'' AND isactive'
        INTO number USING node_name, node_port;
    IF number IS NULL THEN
        RAISE EXCEPTION 'the cluster has no active node %:%', node_name, node_port USING ERRCODE = 'undefined_object',
            HINT = 'See pg_dist_node.';
    END IF;
    EXECUTE 'SELECT success, result FROM master_run_on_worker(ARRAY[$1], ARRAY[$2], ARRAY[$3], false)'
        INTO reply USING node_name, node_port, 'SELECT tenantcall.worker_state() || '' '' || tenantcall.outbox_place()';
    IF NOT reply.success OR split_part(reply.result, ' ', 1) = 'unwanted' THEN
        RAISE EXCEPTION 'node %:% cannot speak to calendars', node_name, node_port USING ERRCODE = 'object_not_in_prerequisite_state',
            DETAIL = CASE WHEN reply.success THEN 'No HTTP worker is to run in this database there.' ELSE reply.result END,
            HINT = 'Name the database in tenantcall.worker_databases there, and restart it.';
    END IF;
    there := split_part(reply.result, ' ', 2)::bigint;
    SELECT greatest(elected.generation, max(split_part(a.answer, ' ', 1)::bigint)) INTO newest
    FROM tenantcall.ask_nodes('SELECT tenantcall.newest_election()') AS a WHERE a.ok AND a.answer <> '';
    IF elected.node = number AND elected.place = there AND elected.generation = newest THEN
        RETURN elected.generation;
    END IF;
    PERFORM tenantcall.note_election(number, elected.node, there, newest + 1, clock_timestamp());
    FOR reply IN SELECT a.node_name AS name, a.node_port AS port, a.ok, a.answer
                 FROM tenantcall.ask_nodes(format('SELECT tenantcall.note_election(%s, %s, %s, %s, %L)', number, elected.node, there,
                                                  newest + 1, clock_timestamp())) AS a WHERE NOT a.ok LOOP
        IF (reply.name, reply.port) = (move_election.node_name, move_election.node_port) THEN
            RAISE EXCEPTION 'node %:% could not be told of its election', reply.name, reply.port
                USING ERRCODE = 'object_not_in_prerequisite_state', DETAIL = reply.answer;
        END IF;
        RAISE WARNING 'node %:% could not be told of the election', reply.name, reply.port
            USING DETAIL = reply.answer, HINT = 'It learns of it from the elected node when it can be reached.';
    END LOOP;
    RETURN newest + 1;
END
$$;
COMMENT ON FUNCTION tenantcall.move_election(text, integer) IS 'internal: part of elect_node()';
REVOKE ALL ON FUNCTION tenantcall.move_election(text, integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.elect_node(node_name text, node_port integer) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_elect_node';
COMMENT ON FUNCTION tenantcall.elect_node(text, integer) IS 'has another node of a Citus cluster speak to calendars; returns the number of the election';
REVOKE ALL ON FUNCTION tenantcall.elect_node(text, integer) FROM PUBLIC;
