-- The type phone: input and output, operators, indexes, casts, parse_phone()

CREATE SCHEMA test_phone;
SET search_path = test_phone, tenantcall;

-- text in and out
SELECT phone '+4930123456', phone '+1234567', phone '+999999999999999';
SELECT phone '4930123456';
SELECT phone '030123456';
SELECT phone '030/12 34 56';
SELECT phone '0049301234567';
SELECT phone '+49 30 123456';
SELECT phone ' +4930123456';
SELECT phone '+4930123456 ';
SELECT phone '+0930123456';
SELECT phone '+123456';
SELECT phone '+1234567890123456';
SELECT phone '+49301x3456a';
SELECT phone '+4930123456;ext=12';
SELECT phone 'anonymous';
SELECT phone 'sip:+4930123456@example.com';
SELECT phone '+';
SELECT phone '';
\echo :LAST_ERROR_SQLSTATE

-- binary in and out: the round trip, and values that are no numbers
SELECT phone_send('+4930123456');
CREATE TABLE numbers (n int PRIMARY KEY, number phone);
INSERT INTO numbers SELECT i, ('+4930' || 100000 + i)::phone FROM generate_series(1, 1000) i;
INSERT INTO numbers VALUES (1001, NULL);
CREATE TABLE numbers_copy (LIKE numbers);
CREATE FUNCTION binary_copy(bytea) RETURNS phone LANGUAGE plpgsql AS $$
DECLARE
    file text := current_setting('data_directory') || '/tc_phone_test.bin';
    result phone;
BEGIN
    CREATE TEMPORARY TABLE binary_in (number phone) ON COMMIT DROP;
    CREATE TEMPORARY TABLE binary_raw (number bytea) ON COMMIT DROP;
    INSERT INTO binary_raw VALUES ($1);
    EXECUTE format('COPY binary_raw TO %L (FORMAT binary)', file);
    EXECUTE format('COPY binary_in FROM %L (FORMAT binary)', file);
    SELECT number INTO result FROM binary_in;
    DROP TABLE binary_in, binary_raw;
    RETURN result;
END
$$;
SELECT binary_copy(phone_send('+4930123456'));
SELECT binary_copy(int8send(999999999999999)), binary_copy(int8send(1000000));
\set VERBOSITY terse
SELECT binary_copy(int8send(0));
\echo :LAST_ERROR_SQLSTATE
SELECT binary_copy(int8send(-4930123456));
SELECT binary_copy(int8send(999999));
SELECT binary_copy(int8send(1000000000000000));
SELECT binary_copy(int4send(1000000));
\set VERBOSITY default

-- operators
SELECT a, b, a = b AS eq, a <> b AS ne, a < b AS lt, a <= b AS le, a > b AS gt, a >= b AS ge,
       phone_cmp(a, b) AS cmp
FROM (VALUES (phone '+4930123456', phone '+4930123456'), ('+4930123456', '+4930123457'),
             ('+4930123457', '+4930123456'), ('+1234567', '+999999999999999')) v (a, b);
SELECT hash_phone(a) = hash_phone(b) AS same_hash,
       hash_phone_extended(a, 42) = hash_phone_extended(b, 42) AS same_seeded,
       hash_phone_extended(a, 0)::bit(32) = hash_phone(a)::bit(32) AS low_word
FROM (VALUES (phone '+4930123456', '+4930123456'::text::phone)) v (a, b);

-- every operator class is complete
SELECT opcname, amname, opcdefault, amvalidate(opc.oid)
FROM pg_opclass opc JOIN pg_am am ON am.oid = opcmethod
WHERE opcintype = 'phone'::regtype ORDER BY amname;
-- every operator has its mirror and its opposite
SELECT oprname, oprcom <> 0 AS mirrored, oprnegate <> 0 AS negated, oprrest, oprjoin, oprcanhash,
       oprcanmerge
FROM pg_operator WHERE oprleft = 'phone'::regtype ORDER BY oprname COLLATE "C";
-- nothing is volatile, nothing is parallel unsafe, and only comparisons are leakproof
SELECT proname, provolatile, proparallel, proisstrict, proleakproof
FROM pg_proc WHERE pronamespace = 'tenantcall'::regnamespace AND proname ~ 'phone'
  AND 'phone'::regtype = ANY (proargtypes::oid[] || prorettype) ORDER BY proname COLLATE "C";

-- indexes
CREATE INDEX numbers_btree ON numbers (number);
ANALYZE numbers;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT n FROM numbers WHERE number = '+4930100007';
SELECT n FROM numbers WHERE number = '+4930100007';
EXPLAIN (COSTS OFF) SELECT n FROM numbers WHERE number > '+4930100997' ORDER BY number;
SELECT n, number FROM numbers WHERE number > '+4930100997' ORDER BY number;
SELECT n FROM numbers WHERE number IS NULL;
DROP INDEX numbers_btree;
CREATE INDEX numbers_hash ON numbers USING hash (number);
EXPLAIN (COSTS OFF) SELECT n FROM numbers WHERE number = '+4930100007';
SELECT n FROM numbers WHERE number = '+4930100007';
RESET enable_seqscan;
RESET enable_bitmapscan;

-- equal numbers share an index tuple
CREATE TABLE repeated (number phone);
INSERT INTO repeated SELECT '+4930123456' FROM generate_series(1, 10000);
CREATE INDEX repeated_dedup ON repeated (number);
CREATE INDEX repeated_plain ON repeated (number) WITH (deduplicate_items = off);
SELECT pg_relation_size('repeated_dedup') < pg_relation_size('repeated_plain') / 2 AS deduplicated;

-- hash join, merge join, DISTINCT, ORDER BY
INSERT INTO numbers_copy TABLE numbers;
SET enable_nestloop = off;
SET enable_mergejoin = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM numbers a JOIN numbers_copy b USING (number);
SELECT count(*) FROM numbers a JOIN numbers_copy b USING (number);
RESET enable_mergejoin;
SET enable_hashjoin = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM numbers a JOIN numbers_copy b USING (number);
SELECT count(*) FROM numbers a JOIN numbers_copy b USING (number);
RESET enable_hashjoin;
RESET enable_nestloop;
SELECT count(DISTINCT number) FROM (TABLE numbers UNION ALL TABLE numbers_copy) u;
SELECT number FROM (VALUES (phone '+4930123456'), ('+15551234567'), (NULL), ('+1234567')) v (number)
ORDER BY number DESC NULLS LAST;

-- partitioning by hash needs the extended hash function
CREATE TABLE spread (number phone) PARTITION BY HASH (number);
CREATE TABLE spread_0 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE spread_1 PARTITION OF spread FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO spread SELECT number FROM numbers WHERE number IS NOT NULL;
SELECT count(*), count(DISTINCT tableoid) FROM spread;

-- casts: by assignment in both directions, never silently in an expression
CREATE TABLE assigned (number phone, written text, varied varchar(20));
INSERT INTO assigned SELECT t, p, p FROM (VALUES ('+4930123456'::text, phone '+15551234567')) v (t, p);
INSERT INTO assigned (number) SELECT '+4930123457'::varchar;
TABLE assigned;
INSERT INTO assigned (number) SELECT '030123456'::text;
SELECT number = written FROM assigned;
SELECT number::text = written, number::varchar(5) FROM assigned WHERE written IS NOT NULL;

-- parse_phone(): canonical, and international as people write it
SELECT parse_phone(t) FROM (VALUES ('+4930123456'), ('+49 30 12 34 56'), ('+49-30-123456'),
    ('+49.30.123456'), ('+49 (30) 123456'), ('+49 30/123456'), ('tel:+4930123456'),
    ('TEL:+49-30-123456'), ('  +4930123456 ')) v (t);
SELECT parse_phone('+4930123456', 'US'), parse_phone('+1 (555) 123-4567', region => 'de');
-- what needs a region
SELECT parse_phone('030 / 12 34 56');
\echo :LAST_ERROR_SQLSTATE
SELECT parse_phone('5551234567');
SELECT t, parse_phone(t, 'DE') FROM (VALUES ('030 / 12 34 56'), ('(030) 123456'), ('0049 30 123456'),
    ('4930123456'), ('tel:030-123456'), ('sip:030123456@example.com')) v (t);
SELECT parse_phone('(212) 555-0123', 'us'), parse_phone('02 1234 5678', 'IT'), parse_phone('0664 1234567', 'AT');
-- what needs a numbering plan, but no region
SELECT parse_phone('+49 (0)30 123456'), parse_phone('+39 (0)2 12345678'),
       parse_phone('tel:030123456;phone-context=+49'), parse_phone('tel:030123456;phone-context=+49', 'US');
-- extensions are dropped
SELECT t, parse_phone(t) FROM (VALUES ('+4930123456 ext. 12'), ('+4930123456x12'), ('tel:+4930123456;ext=12')) v (t);
SELECT parse_phone('030 123456 ext. 12', 'DE');
-- sip: URIs
SELECT t, parse_phone(t) FROM (VALUES ('sip:+4930123456@example.com'), ('sips:+4930123456@example.com;user=phone')) v (t);
SELECT parse_phone('sip:anna@example.com', 'DE');
\echo :LAST_ERROR_SQLSTATE
SELECT parse_phone('sip:192.168.100.200', 'US');
-- what the plan of the country refuses
SELECT parse_phone('030 12', 'DE');
\echo :LAST_ERROR_SQLSTATE
SELECT parse_phone('555 0123', 'US');
SELECT parse_phone('030 1234567890123', 'DE');
SELECT parse_phone('030 123456', 'ZZ');
SELECT parse_phone('0800 FLOWERS', 'DE');
SELECT parse_phone('030' || repeat('1', 1000000), 'DE');
-- what is no number
SELECT parse_phone('anonymous', 'DE');
\echo :LAST_ERROR_SQLSTATE
SELECT parse_phone('+49 30 12');
SELECT parse_phone('+49 30 1234567890123');
SELECT parse_phone('+0 30 1234567');
SELECT parse_phone('tel:');
SELECT parse_phone('   ');
SELECT parse_phone('');
SELECT parse_phone(NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT parse_phone('030123456', 'Germany');
\echo :LAST_ERROR_SQLSTATE
SELECT parse_phone('030123456', '');
SELECT parse_phone('+' || repeat('9', 1000000));

-- what the plans know
SELECT number, phone_region(number), phone_national(number), phone_is_valid(number)
FROM (VALUES (phone '+4930123456'), ('+12125550123'), ('+15551234567'), ('+390212345678'), ('+80012345678'),
             ('+9991234567'), (NULL)) v (number);
SELECT count(*) AS wrong
FROM (VALUES ('030 901820', 'DE'), ('(212) 555-0123', 'US'), ('020 7946 0018', 'GB'), ('02 1234 5678', 'IT')) v (t, region)
WHERE phone_national(parse_phone(t, region)) <> t OR phone_region(parse_phone(t, region)) <> region;

-- callers
SELECT v.caller, c.number, c.reason
FROM (VALUES ('+4930123456'), ('+49 30 123456'), ('030 123456'), ('anonymous'), ('Restricted'), ('sip:anonymous@anonymous.invalid'),
             ('+266696687'), ('unknown'), ('unavailable'), (''), (NULL), ('call_1')) v (caller), caller_number(caller) AS c;
SELECT number, reason FROM caller_number('030 123456', 'de');
SELECT count(*) AS real_numbers FROM (VALUES (phone '+266696687'), ('+7378742833'), ('+2562533'), ('+8656696'), ('+86282452253')) v (p)
WHERE phone_is_valid(p);

RESET search_path;
\set VERBOSITY terse
SET client_min_messages = warning;
DROP SCHEMA test_phone CASCADE;
