-- 79_elected.sql: the one node of a Citus cluster that speaks to calendars

-- One row, of which distribute() makes a copy on every node.  Not dumped: a copy of the cluster is
-- another one.
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

CREATE FUNCTION tenantcall.claim_orders(generation bigint, place bigint, most integer, busy_credentials text[],
                                        lease double precision, settle double precision)
    RETURNS TABLE (company_id bigint, outbox_id bigint, credential text, attempt integer, last_attempt integer, looks boolean,
                   appointment_id bigint, kind text, key text, request text, status text, uid text, old_uid text, email text,
                   event_type_id bigint, starts_at timestamptz, ends_at timestamptz, refused boolean, sent_before boolean,
                   settled boolean, overdue boolean)
    LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_claim_orders';
COMMENT ON FUNCTION tenantcall.claim_orders(bigint, bigint, integer, text[], double precision, double precision) IS 'internal: gives orders of this node to the elected one';
REVOKE ALL ON FUNCTION tenantcall.claim_orders(bigint, bigint, integer, text[], double precision, double precision) FROM PUBLIC;

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

-- Moves the election; the rest of elect_node().
CREATE FUNCTION tenantcall.move_election(node_name text, node_port integer) RETURNS bigint
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    elected tenantcall.elected_nodes%ROWTYPE;
    number integer;
    reply record;
BEGIN
    SELECT * INTO elected FROM tenantcall.elected_nodes;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the tables of tenantcall are not distributed' USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'A server by itself speaks to calendars; on a Citus cluster call tenantcall.distribute().';
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
    IF elected.node = number AND elected.place = split_part(reply.result, ' ', 2)::bigint THEN
        RETURN elected.generation;
    END IF;
    EXECUTE 'UPDATE tenantcall.elected_nodes SET node = $1, previous = node, place = $2, generation = generation + 1, since = $3 '
            'RETURNING generation' INTO elected.generation
        USING number, split_part(reply.result, ' ', 2)::bigint, clock_timestamp();
    RETURN elected.generation;
END
$$;
COMMENT ON FUNCTION tenantcall.move_election(text, integer) IS 'internal: part of elect_node()';
REVOKE ALL ON FUNCTION tenantcall.move_election(text, integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.elect_node(node_name text, node_port integer) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_elect_node';
COMMENT ON FUNCTION tenantcall.elect_node(text, integer) IS 'has another node of a Citus cluster speak to calendars; returns the number of the election';
REVOKE ALL ON FUNCTION tenantcall.elect_node(text, integer) FROM PUBLIC;
