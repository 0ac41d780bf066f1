-- 20_phone.sql: the type phone
--
-- A phone is stored like a bigint: its digits.  Comparison, hashing and sorting are therefore the
-- server's own functions for bigint, under names of ours (as contrib/isn does).  Numbers sort by
-- value, not by country.

CREATE TYPE tenantcall.phone;

CREATE FUNCTION tenantcall.phone_in(cstring) RETURNS tenantcall.phone
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_phone_in';
COMMENT ON FUNCTION tenantcall.phone_in(cstring) IS 'I/O';

CREATE FUNCTION tenantcall.phone_out(tenantcall.phone) RETURNS cstring
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_phone_out';
COMMENT ON FUNCTION tenantcall.phone_out(tenantcall.phone) IS 'I/O';

CREATE FUNCTION tenantcall.phone_recv(internal) RETURNS tenantcall.phone
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_phone_recv';
COMMENT ON FUNCTION tenantcall.phone_recv(internal) IS 'I/O';

CREATE FUNCTION tenantcall.phone_send(tenantcall.phone) RETURNS bytea
    LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_phone_send';
COMMENT ON FUNCTION tenantcall.phone_send(tenantcall.phone) IS 'I/O';

CREATE TYPE tenantcall.phone (
    INPUT = tenantcall.phone_in,
    OUTPUT = tenantcall.phone_out,
    RECEIVE = tenantcall.phone_recv,
    SEND = tenantcall.phone_send,
    LIKE = pg_catalog.int8
);
COMMENT ON TYPE tenantcall.phone IS 'telephone number in international format (E.164), such as +4930123456';

CREATE FUNCTION tenantcall.phone_lt(tenantcall.phone, tenantcall.phone) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'int8lt';
COMMENT ON FUNCTION tenantcall.phone_lt(tenantcall.phone, tenantcall.phone) IS 'implementation of < operator';

CREATE FUNCTION tenantcall.phone_le(tenantcall.phone, tenantcall.phone) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'int8le';
COMMENT ON FUNCTION tenantcall.phone_le(tenantcall.phone, tenantcall.phone) IS 'implementation of <= operator';

CREATE FUNCTION tenantcall.phone_eq(tenantcall.phone, tenantcall.phone) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'int8eq';
COMMENT ON FUNCTION tenantcall.phone_eq(tenantcall.phone, tenantcall.phone) IS 'implementation of = operator';

CREATE FUNCTION tenantcall.phone_ne(tenantcall.phone, tenantcall.phone) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'int8ne';
COMMENT ON FUNCTION tenantcall.phone_ne(tenantcall.phone, tenantcall.phone) IS 'implementation of <> operator';

CREATE FUNCTION tenantcall.phone_ge(tenantcall.phone, tenantcall.phone) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'int8ge';
COMMENT ON FUNCTION tenantcall.phone_ge(tenantcall.phone, tenantcall.phone) IS 'implementation of >= operator';

CREATE FUNCTION tenantcall.phone_gt(tenantcall.phone, tenantcall.phone) RETURNS boolean
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'int8gt';
COMMENT ON FUNCTION tenantcall.phone_gt(tenantcall.phone, tenantcall.phone) IS 'implementation of > operator';

CREATE FUNCTION tenantcall.phone_cmp(tenantcall.phone, tenantcall.phone) RETURNS integer
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'btint8cmp';
COMMENT ON FUNCTION tenantcall.phone_cmp(tenantcall.phone, tenantcall.phone) IS 'less-equal-greater';

CREATE FUNCTION tenantcall.phone_sortsupport(internal) RETURNS void
    LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE AS 'btint8sortsupport';
COMMENT ON FUNCTION tenantcall.phone_sortsupport(internal) IS 'sort support';

CREATE FUNCTION tenantcall.hash_phone(tenantcall.phone) RETURNS integer
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'hashint8';
COMMENT ON FUNCTION tenantcall.hash_phone(tenantcall.phone) IS 'hash';

CREATE FUNCTION tenantcall.hash_phone_extended(tenantcall.phone, bigint) RETURNS bigint
    LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE AS 'hashint8extended';
COMMENT ON FUNCTION tenantcall.hash_phone_extended(tenantcall.phone, bigint) IS 'hash with a seed';

CREATE OPERATOR tenantcall.< (
    LEFTARG = tenantcall.phone, RIGHTARG = tenantcall.phone, FUNCTION = tenantcall.phone_lt,
    COMMUTATOR = OPERATOR(tenantcall.>), NEGATOR = OPERATOR(tenantcall.>=),
    RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
COMMENT ON OPERATOR tenantcall.< (tenantcall.phone, tenantcall.phone) IS 'less than';

CREATE OPERATOR tenantcall.<= (
    LEFTARG = tenantcall.phone, RIGHTARG = tenantcall.phone, FUNCTION = tenantcall.phone_le,
    COMMUTATOR = OPERATOR(tenantcall.>=), NEGATOR = OPERATOR(tenantcall.>),
    RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
COMMENT ON OPERATOR tenantcall.<= (tenantcall.phone, tenantcall.phone) IS 'less than or equal';

CREATE OPERATOR tenantcall.= (
    LEFTARG = tenantcall.phone, RIGHTARG = tenantcall.phone, FUNCTION = tenantcall.phone_eq,
    COMMUTATOR = OPERATOR(tenantcall.=), NEGATOR = OPERATOR(tenantcall.<>),
    RESTRICT = eqsel, JOIN = eqjoinsel,
    HASHES, MERGES
);
COMMENT ON OPERATOR tenantcall.= (tenantcall.phone, tenantcall.phone) IS 'equal';

CREATE OPERATOR tenantcall.<> (
    LEFTARG = tenantcall.phone, RIGHTARG = tenantcall.phone, FUNCTION = tenantcall.phone_ne,
    COMMUTATOR = OPERATOR(tenantcall.<>), NEGATOR = OPERATOR(tenantcall.=),
    RESTRICT = neqsel, JOIN = neqjoinsel
);
COMMENT ON OPERATOR tenantcall.<> (tenantcall.phone, tenantcall.phone) IS 'not equal';

CREATE OPERATOR tenantcall.>= (
    LEFTARG = tenantcall.phone, RIGHTARG = tenantcall.phone, FUNCTION = tenantcall.phone_ge,
    COMMUTATOR = OPERATOR(tenantcall.<=), NEGATOR = OPERATOR(tenantcall.<),
    RESTRICT = scalargesel, JOIN = scalargejoinsel
);
COMMENT ON OPERATOR tenantcall.>= (tenantcall.phone, tenantcall.phone) IS 'greater than or equal';

CREATE OPERATOR tenantcall.> (
    LEFTARG = tenantcall.phone, RIGHTARG = tenantcall.phone, FUNCTION = tenantcall.phone_gt,
    COMMUTATOR = OPERATOR(tenantcall.<), NEGATOR = OPERATOR(tenantcall.<=),
    RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
COMMENT ON OPERATOR tenantcall.> (tenantcall.phone, tenantcall.phone) IS 'greater than';

CREATE OPERATOR CLASS tenantcall.phone_ops DEFAULT FOR TYPE tenantcall.phone USING btree AS
    OPERATOR 1 tenantcall.<,
    OPERATOR 2 tenantcall.<=,
    OPERATOR 3 tenantcall.=,
    OPERATOR 4 tenantcall.>=,
    OPERATOR 5 tenantcall.>,
    FUNCTION 1 tenantcall.phone_cmp(tenantcall.phone, tenantcall.phone),
    FUNCTION 2 tenantcall.phone_sortsupport(internal),
    FUNCTION 4 pg_catalog.btequalimage(oid);

CREATE OPERATOR CLASS tenantcall.phone_ops DEFAULT FOR TYPE tenantcall.phone USING hash AS
    OPERATOR 1 tenantcall.=,
    FUNCTION 1 tenantcall.hash_phone(tenantcall.phone),
    FUNCTION 2 tenantcall.hash_phone_extended(tenantcall.phone, bigint);

CREATE CAST (text AS tenantcall.phone) WITH INOUT AS ASSIGNMENT;
CREATE CAST (varchar AS tenantcall.phone) WITH INOUT AS ASSIGNMENT;
CREATE CAST (tenantcall.phone AS text) WITH INOUT AS ASSIGNMENT;
CREATE CAST (tenantcall.phone AS varchar) WITH INOUT AS ASSIGNMENT;

-- STABLE, not IMMUTABLE: what a national format means depends on the numbering plans installed.
CREATE FUNCTION tenantcall.parse_phone(number text, region text DEFAULT NULL) RETURNS tenantcall.phone
    LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_parse_phone';
COMMENT ON FUNCTION tenantcall.parse_phone(text, text) IS 'reads a telephone number as people write it; region is the country of a number in national format';

CREATE FUNCTION tenantcall.caller_number(caller text, region text DEFAULT NULL)
    RETURNS TABLE (number tenantcall.phone, reason text)
    LANGUAGE C STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_caller_number';
COMMENT ON FUNCTION tenantcall.caller_number(text, text) IS 'number of a caller, or why there is none: missing, withheld, unavailable or not_a_number';

-- What the numbering plans say; STABLE for the same reason.
CREATE FUNCTION tenantcall.phone_region(number tenantcall.phone) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'tc_phone_region';
COMMENT ON FUNCTION tenantcall.phone_region(tenantcall.phone) IS 'country of a number, such as DE; 001 for numbers of no country, NULL where none has such numbers';

CREATE FUNCTION tenantcall.phone_national(number tenantcall.phone) RETURNS text
    LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'tc_phone_national';
COMMENT ON FUNCTION tenantcall.phone_national(tenantcall.phone) IS 'number as people of its country write it';

CREATE FUNCTION tenantcall.phone_is_valid(number tenantcall.phone) RETURNS boolean
    LANGUAGE C STABLE STRICT PARALLEL SAFE COST 1000 AS 'MODULE_PATHNAME', 'tc_phone_is_valid';
COMMENT ON FUNCTION tenantcall.phone_is_valid(tenantcall.phone) IS 'can the number be in use, by the numbering plan of its country?';
