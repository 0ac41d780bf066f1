-- signature: bodies signed as the vendors sign them; the vectors are those of test/fixtures
SELECT name, tenantcall.retell_signature(body, secret, to_timestamp(ms / 1000.0)) = header AS text_right,
       tenantcall.retell_signature(convert_to(body, 'UTF8'), secret, to_timestamp(ms / 1000.0)) = header AS bytea_right
FROM (VALUES
    ('vendor', 'test-api-key', '{"event":"call_ended"}', 1700000000000,
     'v=1700000000000,d=07024cabe7dd8f6d1c6e4a8324ca92c812e6ad4a7ee506c04f7e462e3321823e'),
    ('empty body', 'test-api-key', '', 1700000000000,
     'v=1700000000000,d=3c2757e9ff3f06dc2b4957bb8f8018c615ab2e0c6f522e1de8537bf316688224'),
    ('UTF-8', 'key_live_0123456789abcdef',
     '{"event":"call_started","call":{"call_id":"call_1","to_number":"+4930123456","note":"Grüße"}}', 1760000000123,
     'v=1760000000123,d=b0a7a719611db4e0d8f91a1c5a8456c849f62f620634c0369310b4e9bffd63d9')
) AS vector (name, secret, body, ms, header);

-- bytes that are no text, and a body of 10 MB
SELECT tenantcall.retell_signature('\x00ff'::bytea, 'secret', 'epoch');
SELECT length(tenantcall.retell_signature(repeat('x', 10000000), 'secret'));

-- the time stands in the header, now by default
BEGIN;
SELECT tenantcall.retell_signature('{}', 'secret') = tenantcall.retell_signature('{}', 'secret', now()) AS now_by_default,
       tenantcall.retell_signature('{}', 'secret') <> tenantcall.retell_signature('{}', 'other') AS keyed;
COMMIT;

-- bad input
SELECT tenantcall.retell_signature(NULL::text, 'secret');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.retell_signature('{}', NULL);
SELECT tenantcall.retell_signature('{}', 'secret', NULL);
SELECT tenantcall.retell_signature('{}', '');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.retell_signature('{}', 'secret', 'infinity');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.retell_signature('{}', 'secret', '1969-12-31 23:59:59+00');

-- not for everybody
CREATE ROLE regress_tc_signature_nobody;
SET ROLE regress_tc_signature_nobody;
SELECT tenantcall.retell_signature('{}', 'secret');
SELECT tenantcall.retell_signature('{}'::bytea, 'secret');
RESET ROLE;
DROP ROLE regress_tc_signature_nobody;
