-- export_company(), delete_company()
SET client_min_messages = warning;
CREATE ROLE regress_tc_data_admin;
CREATE ROLE regress_tc_data_gateway;
SELECT tenantcall.grant_admin('regress_tc_data_admin'), tenantcall.grant_gateway('regress_tc_data_gateway');
SELECT tenantcall.create_company('Data', 'DE', 'UTC') AS c1 \gset
SELECT tenantcall.create_company('Data too', 'DE', 'UTC') AS c2 \gset
CREATE FUNCTION pg_temp.fill(company bigint, digit text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    branch bigint;
    service bigint;
BEGIN
    PERFORM tenantcall.enter(company);
    INSERT INTO telephony.branches (name) VALUES ('b') RETURNING branch_id INTO branch;
    INSERT INTO telephony.services (name) VALUES ('s') RETURNING service_id INTO service;
    INSERT INTO telephony.branch_services (branch_id, service_id) VALUES (branch, service);
    INSERT INTO telephony.opening_hours (branch_id, weekday, opens, closes) VALUES (branch, 1, '9:00', '17:00');
    INSERT INTO telephony.customers (name, phone) VALUES ('Anna', '+4915133333331');
    PERFORM tenantcall.assign_number('+493090000' || digit, company, branch);
    PERFORM tenantcall.assign_agent('data_agent_' || digit, company, branch);
    PERFORM tenantcall.set_webhook_key('retell', 'data_' || digit, 'data_secret', company);
    PERFORM tenantcall.set_rate_policy('function_call', 7, '1 minute', company_id => company);
    INSERT INTO telephony.calls (provider_call_id, status, branch_id, customer_id, phone_number_id)
    SELECT 'data_' || digit || '_' || n, 'inbound', branch, k.customer_id, p.phone_number_id
    FROM generate_series(1, 3) AS n, telephony.customers AS k, telephony.phone_numbers AS p
    WHERE k.company_id = company AND p.company_id = company;
    UPDATE telephony.calls SET status = 'completed' WHERE company_id = company;
    INSERT INTO telephony.call_events (call_id, call_at, event, received_at, last_received_at, body)
    SELECT call_id, at, 'call_ended', now(), now(), '{}' FROM telephony.calls, LATERAL (VALUES (created_at), (created_at - interval '1 year')) AS v (at)
    WHERE company_id = company;
    INSERT INTO telephony.function_calls (idempotency_key, call_id, name, lease_until) SELECT call_id, call_id, 'f', now() FROM telephony.calls WHERE company_id = company;
    INSERT INTO telephony.tenant_decisions (kind, outcome, by_role) VALUES ('inbound', 'accepted', 'x');
    INSERT INTO tenantcall.call_bindings (provider, provider_call_id, company_id) SELECT provider, provider_call_id, company_id FROM telephony.calls WHERE company_id = company;
END
$$;
BEGIN;
SELECT pg_temp.fill(:c1, '1');
COMMIT;
BEGIN;
SELECT pg_temp.fill(:c2, '2');
COMMIT;

SET ROLE regress_tc_data_admin;
SELECT relation, count(*), bool_and(coalesce(data ->> 'company_id', data ->> 'verified_for')::bigint = :c1) AS own
FROM tenantcall.export_company(:c1) WITH ORDINALITY AS e (relation, data, n) GROUP BY relation ORDER BY relation COLLATE "C";
-- parents before children
SELECT array_agg(DISTINCT relation ORDER BY relation) FROM (SELECT relation FROM tenantcall.export_company(:c1) LIMIT 2) AS e;
SELECT data ->> 'name' AS name, data ? 'ciphertext' AS ciphertext FROM tenantcall.export_company(:c1) WHERE relation = 'tenantcall.secrets';
SELECT data ->> 'provider_call_id' AS call, data ->> 'status' AS status FROM tenantcall.export_company(:c1) WHERE relation = 'telephony.calls';
SELECT tenantcall.export_company(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.export_company(4000000000000);
\echo :LAST_ERROR_SQLSTATE
CREATE TEMP TABLE other AS SELECT * FROM tenantcall.export_company(:c2);

-- guarded
\set VERBOSITY sqlstate
SELECT tenantcall.delete_company(:c1);
SELECT tenantcall.delete_company(NULL);
SELECT tenantcall.delete_company(4000000000000);
BEGIN;
SELECT tenantcall.enter(:c2) \g /dev/null
SELECT tenantcall.delete_company(:c1);
ROLLBACK;
SELECT tenantcall.set_company_status(:c1, 'suspended', 'gone') \g /dev/null
-- undone
BEGIN;
SELECT sum(rows_deleted) > 0 AS deleted FROM tenantcall.delete_company(:c1);
ROLLBACK;
SELECT count(*) FROM tenantcall.export_company(:c1);
-- a user's table that refers to it is named
\set VERBOSITY terse
RESET ROLE;
CREATE TABLE regress_tc_data_users (company_id bigint REFERENCES telephony.companies);
INSERT INTO regress_tc_data_users VALUES (:c1);
SET ROLE regress_tc_data_admin;
SELECT tenantcall.delete_company(:c1);
RESET ROLE;
\set VERBOSITY sqlstate
DROP TABLE regress_tc_data_users;
SET ROLE regress_tc_data_admin;
SELECT relation, rows_deleted FROM tenantcall.delete_company(:c1) WHERE rows_deleted > 0 ORDER BY relation COLLATE "C";
SELECT tenantcall.export_company(:c1);
\set VERBOSITY default
-- nothing of it is left, and nothing of another one is gone
SELECT * FROM tenantcall.resolve_phone('+4930900001');
SELECT count(*) AS lost FROM (SELECT * FROM other EXCEPT SELECT * FROM tenantcall.export_company(:c2)) AS d;
RESET ROLE;
SELECT count(*) FROM tenantcall.secrets WHERE company_id = :c1;
SELECT (SELECT count(*) FROM telephony.call_events WHERE company_id = :c1) + (SELECT count(*) FROM telephony.call_transitions WHERE company_id = :c1)
     + (SELECT count(*) FROM telephony.calls WHERE company_id = :c1) + (SELECT count(*) FROM tenantcall.call_bindings WHERE company_id = :c1) AS rest;
SET ROLE regress_tc_data_gateway;
SELECT tenantcall.delete_company(:c2);
SELECT tenantcall.export_company(:c2);
RESET ROLE;
DROP TABLE other;
DROP OWNED BY regress_tc_data_admin, regress_tc_data_gateway;
DROP ROLE regress_tc_data_admin, regress_tc_data_gateway;
