-- inbound: the inbound webhook, from a gateway that owns nothing
SET client_min_messages = warning;
\set SHOW_CONTEXT never
CREATE ROLE regress_tc_inbound_gateway;
CREATE ROLE regress_tc_inbound_app;
SELECT tenantcall.grant_gateway('regress_tc_inbound_gateway'), tenantcall.grant_app('regress_tc_inbound_app');
SELECT tenantcall.set_webhook_key('retell', 'inbound', 'inbound secret');
SELECT tenantcall.create_company('inbound one', 'DE', 'Europe/Berlin') AS one,
       tenantcall.create_company('inbound two', 'DE', 'Europe/Berlin') AS two \gset
BEGIN;
SELECT tenantcall.enter(:one);
INSERT INTO telephony.branches (name) VALUES ('one a') RETURNING branch_id AS one_a \gset
INSERT INTO telephony.customers (name, phone) VALUES ('Ada', '+4915100000001');
COMMIT;
BEGIN;
SELECT tenantcall.enter(:two);
INSERT INTO telephony.branches (name) VALUES ('two a') RETURNING branch_id AS two_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770001', :one, :one_a) IS NOT NULL AS assigned,
       tenantcall.assign_number('+49307770011', :two, :two_a) IS NOT NULL AS assigned;
-- companies by name, and signed bodies, for the roles of this test
SELECT set_config('regress.one', :'one', false), set_config('regress.two', :'two', false) \gset ignored_
CREATE FUNCTION inbound_company(id bigint) RETURNS text LANGUAGE sql AS $$
SELECT CASE id WHEN current_setting('regress.one')::bigint THEN 'one' WHEN current_setting('regress.two')::bigint THEN 'two' WHEN current_setting('regress.three', true)::bigint THEN 'three' END
$$;
CREATE FUNCTION inbound_sign(body text, secret text DEFAULT 'inbound secret') RETURNS text LANGUAGE sql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$ SELECT tenantcall.retell_signature(body, secret) $$;

CREATE FUNCTION inbound_body(number text, caller text DEFAULT '+4915100000001') RETURNS text LANGUAGE sql AS $$
SELECT json_build_object('event', 'call_inbound', 'call_inbound', json_build_object(
    'agent_id', 'x', 'from_number', caller, 'to_number', number))::text
$$;
SET ROLE regress_tc_inbound_gateway;
-- the token is another one each time
PREPARE ring(text, text) AS SELECT outcome, regexp_replace(answer::text, 'tc1_[0-9a-f]{32}', 'TOKEN') AS answer
FROM tenantcall.answer_inbound_call($1, $2);

-- accepted: company, branch and the customer who calls
EXECUTE ring(inbound_body('+49307770001'), inbound_sign(inbound_body('+49307770001')));
EXECUTE ring(inbound_body('+49307770011'), inbound_sign(inbound_body('+49307770011')));
SELECT outcome FROM tenantcall.answer_inbound_call(convert_to(inbound_body('+49307770001', '+4915100000002'), 'UTF8'),
    inbound_sign(inbound_body('+49307770001', '+4915100000002')));
-- no context is left, and none is needed
SELECT tenantcall.current_company_id() IS NULL AS none;

-- rejected: another key, no signature, another body, no body
EXECUTE ring(inbound_body('+49307770001'), inbound_sign(inbound_body('+49307770001'), 'wrong'));
EXECUTE ring(inbound_body('+49307770001'), NULL);
EXECUTE ring(inbound_body('+49307770001') || ' ', inbound_sign(inbound_body('+49307770001')));
EXECUTE ring(NULL, inbound_sign(inbound_body('+49307770001')));

-- unknown: nobody's number, no number, no request
EXECUTE ring(inbound_body('+49307779999'), inbound_sign(inbound_body('+49307779999')));
EXECUTE ring(inbound_body('anonymous'), inbound_sign(inbound_body('anonymous')));
EXECUTE ring(inbound_body(NULL), inbound_sign(inbound_body(NULL)));
EXECUTE ring('{}', inbound_sign('{}'));
EXECUTE ring('nonsense', inbound_sign('nonsense'));

-- suspended
RESET ROLE;
SELECT tenantcall.set_company_status(:two, 'suspended', 'unpaid');
SELECT inbound_body('+49307770011', '+4915100000003') AS body, inbound_sign(inbound_body('+49307770011', '+4915100000003')) AS signature \gset
SET ROLE regress_tc_inbound_gateway;
EXECUTE ring(:'body', :'signature');
RESET ROLE;
SELECT tenantcall.set_company_status(:two, 'active');
-- the same delivery again gets the same answer, whatever has changed
SET ROLE regress_tc_inbound_gateway;
EXECUTE ring(:'body', :'signature');
RESET ROLE;

-- limited, the one company alone
SELECT tenantcall.create_company('inbound three', 'DE', 'Europe/Berlin') AS three \gset
BEGIN;
SELECT tenantcall.enter(:three);
INSERT INTO telephony.branches (name) VALUES ('three a') RETURNING branch_id AS three_a \gset
COMMIT;
SELECT tenantcall.assign_number('+49307770021', :three, :three_a) IS NOT NULL AS assigned;
SELECT set_config('regress.three', :'three', false) \gset ignored_
SELECT tenantcall.set_rate_policy('inbound_call', 1, interval '1 day', company_id => :three);
SET ROLE regress_tc_inbound_gateway;
SELECT inbound_body('+49307770021') AS body, inbound_sign(inbound_body('+49307770021')) AS signature \gset
EXECUTE ring(:'body', :'signature');
EXECUTE ring(inbound_body('+49307770021', '+4915100000004'), inbound_sign(inbound_body('+49307770021', '+4915100000004')));
EXECUTE ring(inbound_body('+49307770011', '+4915100000004'), inbound_sign(inbound_body('+49307770011', '+4915100000004')));
-- delivered again: the same answer with the same token, no second decision, lease or rate token
SELECT answer #>> '{call_inbound,metadata,tenantcall}' AS token FROM tenantcall.answer_inbound_call(:'body', :'signature') \gset
SELECT outcome, answer #>> '{call_inbound,metadata,tenantcall}' = :'token' AS same
FROM tenantcall.answer_inbound_call(convert_to(:'body', 'UTF8'), :'signature');
RESET ROLE;
SELECT tenantcall.drop_rate_policy('inbound_call', company_id => :three);
SELECT direction, provider_call_id, count(*) FROM telephony.call_leases WHERE company_id = :three GROUP BY 1, 2;
-- the token is stored nowhere
SELECT outcome, answer, answer::text LIKE '%' || :'token' || '%' AS told, correlation = encode(sha256(convert_to(:'token', 'UTF8')), 'hex') AS hashed
FROM telephony.inbound_requests WHERE company_id = :three ORDER BY request_id;

-- what was recorded, in each company's own books, and what was kept
SELECT inbound_company(company_id) AS company, kind, outcome, source, reason, from_number, to_number, by_role
FROM telephony.tenant_decisions WHERE company_id IN (:one, :two, :three) AND kind <> 'enter' ORDER BY decision_id;
SELECT kind, event, number, reason, deliveries FROM tenantcall.quarantined ORDER BY quarantine_id;
SELECT count(*) FROM telephony.calls WHERE company_id IN (:one, :two, :three);

-- errors: arguments of our own caller
SET ROLE regress_tc_inbound_gateway;
SELECT * FROM tenantcall.answer_inbound_call('{}'::text, 'x', NULL);
SELECT * FROM tenantcall.answer_inbound_call('{}'::text, 'x', 'infinity');
SET ROLE regress_tc_inbound_app;
SELECT * FROM tenantcall.answer_inbound_call('{}'::text, 'x');
RESET ROLE;
DROP FUNCTION inbound_body(text, text);

RESET ROLE;
SELECT tenantcall.drop_webhook_key('retell', 'inbound');
SELECT tenantcall.release_number('+49307770021'), tenantcall.release_number('+49307770001'), tenantcall.release_number('+49307770011');
DELETE FROM tenantcall.quarantine;
DROP FUNCTION inbound_company(bigint), inbound_sign(text, text);
DROP OWNED BY regress_tc_inbound_gateway, regress_tc_inbound_app;
DROP ROLE regress_tc_inbound_gateway, regress_tc_inbound_app;
