-- token: enter_token() and sign_token().  Tokens are made here with pgcrypto's hmac, from the key
-- file, so that nothing relies on our own signer; and used by roles that own nothing.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pgcrypto;
SELECT format('SET search_path = public, %I', extnamespace::regnamespace)
FROM pg_extension WHERE extname = 'pgcrypto' \gexec
CREATE ROLE regress_tc_token_app;
CREATE ROLE regress_tc_token_gateway;
GRANT EXECUTE ON FUNCTION tenantcall.enter_token(text)
    TO regress_tc_token_app, regress_tc_token_gateway;
GRANT EXECUTE ON FUNCTION tenantcall.sign_token(bigint, bigint, interval, name)
    TO regress_tc_token_gateway;
\set company_uuid 7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d11

-- the keys of the file: the first signs, both verify
CREATE TABLE token_key AS
SELECT row_number() OVER () AS n, part[1] AS kid, part[2] AS secret
FROM regexp_matches(pg_read_file(current_setting('tenantcall.key_file')),
                    '^([^#\s]\S*)\s+(\S+)', 'ng') AS part;
REVOKE ALL ON token_key FROM PUBLIC;
SELECT n FROM token_key WHERE n <= 2 ORDER BY n;

-- a company with a branch, and another one
SELECT tenantcall.create_company('regress token', 'DE', 'Europe/Berlin', :'company_uuid') AS company_id,
       tenantcall.create_company('regress token 2', 'DE', 'Europe/Berlin') AS other_id \gset
BEGIN;
SELECT tenantcall.enter(:company_id);
INSERT INTO telephony.branches (name, time_zone) VALUES ('one', 'Europe/Berlin')
RETURNING branch_id, external_id AS branch_uuid \gset
COMMIT;
CREATE TABLE token_company AS SELECT :company_id::bigint AS company_id;
GRANT SELECT ON token_company TO regress_tc_token_app, regress_tc_token_gateway;

-- an independent signer
CREATE FUNCTION token_base64url(bytea) RETURNS text LANGUAGE sql AS $$
SELECT translate(rtrim(replace(encode($1, 'base64'), E'\n', ''), '='), '+/', '-_')
$$;
CREATE FUNCTION token_raw(header text, payload text, key int DEFAULT 1, algorithm text DEFAULT 'sha256')
RETURNS text LANGUAGE sql AS $$
SELECT signed || '.' || token_base64url(hmac(signed, secret, algorithm))
FROM token_key, concat(token_base64url(convert_to(header, 'UTF8')), '.',
                       token_base64url(convert_to(payload, 'UTF8'))) AS signed
WHERE n = key
$$;
CREATE FUNCTION token_header(key int DEFAULT 1, alg text DEFAULT 'HS256') RETURNS text LANGUAGE sql AS $$
SELECT format('{"alg":"%s","typ":"JWT","kid":"%s"}', alg, kid) FROM token_key WHERE n = key
$$;
-- the claims that are always there, but for those that "more" brings itself
CREATE FUNCTION token_claims(more text) RETURNS text LANGUAGE sql AS $$
SELECT '{' || concat_ws(',', nullif(more, ''),
    CASE WHEN more !~ '"company_(id|uuid)"' THEN format('"company_id":%s', company_id) END,
    CASE WHEN more !~ '"exp"' THEN format('"exp":%s', floor(extract(epoch FROM now()))::bigint + 600) END,
    CASE WHEN more !~ '"aud"' THEN format('"aud":"%s"', current_database()) END) || '}'
FROM token_company
$$;
-- seconds from now, as a claim's value
CREATE FUNCTION token_in(seconds int) RETURNS text LANGUAGE sql AS $$
SELECT (floor(extract(epoch FROM now()))::bigint + seconds)::text
$$;

CREATE TABLE token_case (n int GENERATED ALWAYS AS IDENTITY, valid boolean, what text, token text);
GRANT SELECT ON token_case TO regress_tc_token_app;
INSERT INTO token_case (valid, what, token) VALUES
    (true, 'plain', token_raw(token_header(), token_claims(''))),
    (true, 'second key', token_raw(token_header(2), token_claims(''), 2)),
    (true, 'no typ', token_raw(replace(token_header(), '"typ":"JWT",', ''), token_claims(''))),
    (true, 'spaces and unknown claims', token_raw(token_header(),
        E' \n' || token_claims('"x" : {"branch_id":[1.5e3,null]} , "jti" : "a\u0062"') || E'\t')),
    (true, 'by uuid', token_raw(token_header(), token_claims(
        '"company_uuid":"7A3CF6A4-5d50-4d0e-9f43-0c2b1f3a9d11"'))),
    (true, 'branch', token_raw(token_header(), token_claims('"branch_id":' || :branch_id))),
    (true, 'branch by uuid', token_raw(token_header(), token_claims(
        '"company_uuid":"7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d11","branch_uuid":"' || :'branch_uuid' || '"'))),
    (true, 'for this role', token_raw(token_header(), token_claims('"role":"regress_tc_token_app"'))),
    (true, 'expired within the leeway', token_raw(token_header(), token_claims('"exp":' || token_in(-5)))),
    (true, 'starts within the leeway', token_raw(token_header(), token_claims('"nbf":' || token_in(15)))),
    (false, 'null', NULL),
    (false, 'empty', ''),
    (false, 'no token', 'hello'),
    (false, 'dots', '..'),
    (false, 'expired', token_raw(token_header(), token_claims('"exp":' || token_in(-31)))),
    (false, 'expired long ago', token_raw(token_header(), token_claims('"exp":1'))),
    (false, 'not yet', token_raw(token_header(), token_claims('"nbf":' || token_in(600)))),
    (false, 'issued in the future', token_raw(token_header(), token_claims('"iat":' || token_in(600)))),
    (false, 'no exp', token_raw(token_header(), replace(token_claims(''), '"exp"', '"exq"'))),
    (false, 'exp null', token_raw(token_header(), token_claims('"exp":null'))),
    (false, 'exp as a float', token_raw(token_header(), token_claims('"exp":' || token_in(600) || '.0'))),
    (false, 'exp with an exponent', token_raw(token_header(), token_claims('"exp":4e9'))),
    (false, 'exp as a string', token_raw(token_header(), token_claims('"exp":"' || token_in(600) || '"'))),
    (false, 'exp beyond int64', token_raw(token_header(), token_claims('"exp":99999999999999999999'))),
    (false, 'wrong aud', token_raw(token_header(), token_claims('"aud":"postgres"'))),
    (false, 'no aud', token_raw(token_header(), replace(token_claims(''), '"aud"', '"auds"'))),
    (false, 'aud as an array', token_raw(token_header(), token_claims(
        format('"aud":["%s"]', current_database())))),
    (false, 'wrong role', token_raw(token_header(), token_claims('"role":"regress_tc_token_gateway"'))),
    (false, 'role null', token_raw(token_header(), token_claims('"role":null'))),
    (false, 'unknown kid', token_raw('{"alg":"HS256","kid":"none-such"}', token_claims(''))),
    (false, 'kid of the other key', token_raw(token_header(2), token_claims(''), 1)),
    (false, 'no kid', token_raw('{"alg":"HS256","typ":"JWT"}', token_claims(''))),
    (false, 'kid as a path', token_raw('{"alg":"HS256","kid":"../../dev/null"}', token_claims(''))),
    (false, 'alg none', token_raw(token_header(1, 'none'), token_claims(''))),
    (false, 'alg none, unsigned', rtrim(token_base64url(convert_to(token_header(1, 'none'), 'UTF8')) || '.' ||
        token_base64url(convert_to(token_claims(''), 'UTF8'))) || '.'),
    (false, 'alg None', token_raw(token_header(1, 'None'), token_claims(''))),
    (false, 'alg HS512', token_raw(token_header(1, 'HS512'), token_claims(''), 1, 'sha512')),
    (false, 'alg HS512 by sha256', token_raw(token_header(1, 'HS512'), token_claims(''))),
    (false, 'alg RS256 with the secret', token_raw(token_header(1, 'RS256'), token_claims(''))),
    (false, 'alg in lower case', token_raw(token_header(1, 'hs256'), token_claims(''))),
    (false, 'two algs', token_raw(replace(token_header(), '{', '{"alg":"none",'), token_claims(''))),
    (false, 'crit', token_raw(replace(token_header(), '{', '{"crit":["exp"],'), token_claims(''))),
    (false, 'typ JWE', token_raw(replace(token_header(), '"JWT"', '"JWE"'), token_claims(''))),
    (false, 'no company', token_raw(token_header(), replace(token_claims(''), '"company_id"', '"company"'))),
    (false, 'company 0', token_raw(token_header(), token_claims('"company_id":0'))),
    (false, 'company negative', token_raw(token_header(), token_claims('"company_id":-1'))),
    (false, 'company null', token_raw(token_header(), token_claims('"company_id":null'))),
    (false, 'company as a string', token_raw(token_header(), token_claims('"company_id":"7"'))),
    (false, 'company as a float', token_raw(token_header(), token_claims('"company_id":7.0'))),
    (false, 'company with an exponent', token_raw(token_header(), token_claims('"company_id":7e0'))),
    (false, 'company beyond int64', token_raw(token_header(), token_claims('"company_id":18446744073709551623'))),
    (false, 'company nested', token_raw(token_header(), token_claims('"company_id":{"company_id":7}'))),
    (false, 'company in an array', token_raw(token_header(), token_claims('"company_id":[7]'))),
    (false, 'company by id and by uuid', token_raw(token_header(), token_claims(
        '"company_id":7,"company_uuid":"7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d11"'))),
    (false, 'no such company', token_raw(token_header(), token_claims('"company_id":9223372036854775807'))),
    (false, 'no such uuid', token_raw(token_header(), token_claims(
        '"company_uuid":"7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d12"'))),
    (false, 'no such branch', token_raw(token_header(), token_claims('"branch_id":9223372036854775807'))),
    (false, 'no such branch uuid', token_raw(token_header(), token_claims(
        '"company_uuid":"7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d11","branch_uuid":"7a3cf6a4-5d50-4d0e-9f43-0c2b1f3a9d11"'))),
    (false, 'branch of another company', token_raw(token_header(), token_claims(
        '"company_id":' || :other_id || ',"branch_id":' || :branch_id))),
    (false, 'uuid without hyphens', token_raw(token_header(), token_claims(
        '"company_uuid":"7a3cf6a45d504d0e9f430c2b1f3a9d11"'))),
    (false, 'nil uuid', token_raw(token_header(), token_claims(
        '"company_uuid":"00000000-0000-0000-0000-000000000000"'))),
    (false, 'branch null', token_raw(token_header(), token_claims('"branch_id":null'))),
    (false, 'branch as a string', token_raw(token_header(), token_claims('"branch_id":"9"'))),
    (false, 'duplicate claims', token_raw(token_header(), token_claims('"company_id":7,"company_id":8'))),
    (false, 'duplicate claims, escaped', token_raw(token_header(), token_claims(
        '"company_id":7,"compan\u0079_id":8'))),
    (false, 'huge', token_raw(token_header(), token_claims(format('"x":"%s"', repeat('x', 4000))))),
    (false, 'deeply nested', token_raw(token_header(), token_claims(
        format('"x":%s1%s', repeat('[', 500), repeat(']', 500))))),
    (false, 'trailing data in the claims', token_raw(token_header(), token_claims('') || '{}')),
    (false, 'claims are an array', token_raw(token_header(), '[' || token_claims('') || ']')),
    (false, 'control character', token_raw(token_header(), token_claims(E'"x":"\x01"'))),
    (false, 'NUL escape', token_raw(token_header(), token_claims('"x":"\u0000"'))),
    (false, 'single quotes', token_raw(token_header(), replace(token_claims(''), '"', '''')));
-- what is done to a valid token afterwards
INSERT INTO token_case (valid, what, token)
SELECT false, change.what, changed
FROM token_case AS good, split_part(token, '.', 1) AS h, split_part(token, '.', 2) AS p,
     split_part(token, '.', 3) AS s,
     LATERAL (VALUES
        ('tampered payload', h || '.' || token_base64url(convert_to(token_claims('"company_id":' || :other_id), 'UTF8')) || '.' || s),
        ('tampered header', token_base64url(convert_to(token_header() || ' ', 'UTF8')) || '.' || p || '.' || s),
        ('tampered signature', h || '.' || p || '.' || translate(left(s, 1), 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_', 'BADCFEHGJILKNMPORQTSVUXWZYbadcfehgjilknmporqtsvuxwzy1032547698_-') || substr(s, 2)),
        ('signature cut off', h || '.' || p || '.' || left(s, 42)),
        ('no signature', h || '.' || p || '.'),
        ('signature of zeros', h || '.' || p || '.' || repeat('A', 43)),
        ('signature in hex', h || '.' || p || '.' || encode(hmac(h || '.' || p, 'x', 'sha256'), 'hex')),
        ('padding', token || '='),
        ('padding of the payload', h || '.' || p || '=.' || s),
        ('bits left over', h || '.' || p || '.' || left(s, 42) || translate(right(s, 1), 'AEIMQUYcgkosw048', 'BFJNRVZdhlptx159')),
        ('space before', ' ' || token),
        ('line end after', token || E'\n'),
        ('space within', h || '. ' || p || '.' || s),
        ('four parts', token || '.' || h),
        ('five parts', token || '.' || h || '.' || s),
        ('Bearer', 'Bearer ' || token),
        ('twice', token || token)) AS change (what, changed)
WHERE good.what = 'plain';
-- the other base64 alphabet, in a payload whose text differs in it
INSERT INTO token_case (valid, what, token)
SELECT valid, what, h || '.' || p || '.' || token_base64url(hmac(h || '.' || p, secret, 'sha256'))
FROM token_key, token_base64url(convert_to(token_header(), 'UTF8')) AS h,
     token_base64url(convert_to(token_claims('"x":"~~~???>>>"'), 'UTF8')) AS url,
     LATERAL (VALUES (true, 'base64url', url),
                     (false, 'standard base64', translate(url, '-_', '+/'))) AS v (valid, what, p)
WHERE token_key.n = 1;
SELECT count(*) > 1 AS alphabets_differ FROM token_case
WHERE what IN ('base64url', 'standard base64') AND token ~ CASE WHEN valid THEN '[-_]' ELSE '[+/]' END;

-- each case is what it says: there is a token, and no two are alike
SELECT what FROM token_case WHERE token IS NULL;
SELECT string_agg(what, ', ') FROM token_case GROUP BY token HAVING count(*) > 1;

-- what comes of a token, with everything that a client is told
CREATE FUNCTION token_outcome(token text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    state text; message text; detail text; hint text;
BEGIN
    PERFORM tenantcall.enter_token(token);
    RETURN 'entered';
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE, message = MESSAGE_TEXT,
        detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
    RETURN concat_ws(E'\n', state, message, detail, hint);
END
$$;

SET SESSION AUTHORIZATION regress_tc_token_app;

-- every faulty token: one and the same answer, and no context
BEGIN;
SELECT token_outcome(token), count(*), count(DISTINCT what) = count(*) AS distinct FROM token_case WHERE NOT valid GROUP BY 1;
SELECT what FROM token_case WHERE NOT valid AND token_outcome(token) NOT LIKE 'PT401%' ORDER BY n;
SELECT tenantcall.current_company_id(), tenantcall.current_company_uuid();
COMMIT;
BEGIN;
SELECT tenantcall.enter_token(NULL);
ROLLBACK;
\echo :LAST_ERROR_SQLSTATE

-- the valid ones, each in a transaction of its own
CREATE TEMP TABLE entered (what text, outcome text, company boolean, branch boolean);
PREPARE enter_valid AS INSERT INTO entered SELECT what, token_outcome(token) FROM token_case WHERE what = $1;
PREPARE note_context AS UPDATE entered
SET company = tenantcall.current_company_id() = company_id AND tenantcall.current_company_uuid() = $2,
    branch = (tenantcall.current_branch_id(), tenantcall.current_branch_uuid()) = ($3, $4)
FROM token_company WHERE what = $1;
SELECT format('BEGIN; EXECUTE enter_valid(%L); EXECUTE note_context(%1$L, %L, %s, %L); COMMIT;', what, :'company_uuid', :branch_id, :'branch_uuid')
FROM token_case WHERE valid ORDER BY n
\set ECHO none
\gexec
\set ECHO all
SELECT * FROM entered;

-- outside of a transaction block there is nothing to enter
SELECT token AS plain FROM token_case WHERE what = 'plain' \gset
SELECT tenantcall.enter_token(:'plain');
\echo :LAST_ERROR_SQLSTATE
-- set once: a second tenant is refused, the same one is not, and the context stays
SELECT token AS second FROM token_case WHERE what = 'second key' \gset
BEGIN;
SELECT tenantcall.enter_token(:'plain');
SELECT tenantcall.enter_token(:'second');
SAVEPOINT s;
SELECT tenantcall.enter_token('forged');
ROLLBACK TO s;
SELECT tenantcall.current_company_id() = :company_id AS still_there;
COMMIT;
SELECT tenantcall.current_company_id();
-- an app cannot sign
SELECT tenantcall.sign_token(:company_id, NULL, '1 minute');

-- the gateway signs; what it signs is what an independent check expects
SET SESSION AUTHORIZATION regress_tc_token_gateway;
SELECT tenantcall.sign_token(:company_id, NULL, '90 seconds') AS any_role,
       tenantcall.sign_token(:company_id, NULL, '1 minute', 'regress_tc_token_app') AS for_app \gset
RESET SESSION AUTHORIZATION;
CREATE FUNCTION token_part(token text, part int) RETURNS json LANGUAGE sql AS $$
SELECT convert_from(decode(rpad(text, (length(text) + 3) / 4 * 4, '='), 'base64'), 'UTF8')::json
FROM translate(split_part(token, '.', part), '-_', '+/') AS text
$$;
SELECT token_base64url(hmac(split_part(:'any_role', '.', 1) || '.' || split_part(:'any_role', '.', 2), secret, 'sha256'))
       = split_part(:'any_role', '.', 3) AS signature_right,
       token_part(:'any_role', 1)::text = token_header() AS header_right
FROM token_key WHERE n = 1;
SELECT json_object_keys(token_part(:'for_app', 2));
SELECT claims->>'company_id' = :'company_id' AS company, claims->>'aud' = current_database() AS aud, claims->>'role' AS role,
       (claims->>'exp')::bigint - (claims->>'iat')::bigint IN (60, 61) AS life,
       (claims->>'nbf') = (claims->>'iat') AS from_now_on,
       claims->>'jti' ~ '^[0-9a-f]{32}$' AS jti,
       claims->>'jti' <> token_part(:'any_role', 2)->>'jti' AS unique_jti
FROM token_part(:'for_app', 2) AS claims;
SET SESSION AUTHORIZATION regress_tc_token_app;
BEGIN;
SELECT tenantcall.enter_token(:'for_app');
SELECT tenantcall.current_company_id() = :company_id AS entered;
COMMIT;
SET SESSION AUTHORIZATION regress_tc_token_gateway;
BEGIN;
SELECT tenantcall.enter_token(:'for_app');
ROLLBACK;
BEGIN;
SELECT tenantcall.enter_token(:'any_role');
COMMIT;

-- bad input to sign_token
SELECT tenantcall.sign_token(NULL, NULL, '1 minute');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.sign_token(0, NULL, '1 minute');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.sign_token(-1, NULL, '1 minute');
SELECT tenantcall.sign_token(:company_id, 0, '1 minute');
SELECT tenantcall.sign_token(:company_id, NULL, NULL);
SELECT tenantcall.sign_token(:company_id, NULL, '0');
SELECT tenantcall.sign_token(:company_id, NULL, '-1 minute');
SELECT tenantcall.sign_token(:company_id, NULL, '1 day 1 second');
SELECT tenantcall.sign_token(:company_id, NULL, '1 month');
SELECT tenantcall.sign_token(:company_id, NULL, '170000000 years');
SELECT tenantcall.sign_token(:company_id, NULL, '1 minute', 'regress_tc_token_nobody');
\set VERBOSITY terse
SELECT tenantcall.sign_token(9223372036854775807, NULL, '1 minute');
\echo :LAST_ERROR_SQLSTATE
SELECT tenantcall.sign_token(:other_id, :branch_id, '1 minute');
\set VERBOSITY default

-- a suspended company can still be entered
RESET SESSION AUTHORIZATION;
SELECT tenantcall.set_company_status(:company_id, 'suspended', 'regress token');
SET SESSION AUTHORIZATION regress_tc_token_app;
BEGIN;
SELECT tenantcall.enter_token(:'plain');
COMMIT;

-- the settings are the server's: no session may widen them, or see where
-- the keys are
SET tenantcall.token_leeway = 300;
SET tenantcall.token_max_ttl = 1;
SET tenantcall.key_file = '/dev/null';
SELECT count(*) FROM pg_settings WHERE name = 'tenantcall.key_file';
RESET SESSION AUTHORIZATION;

DROP TABLE token_key, token_company, token_case, entered;
DROP FUNCTION token_base64url, token_raw, token_header, token_claims, token_in, token_outcome, token_part;
DROP OWNED BY regress_tc_token_app, regress_tc_token_gateway;
DROP ROLE regress_tc_token_app, regress_tc_token_gateway;
