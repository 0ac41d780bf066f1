-- 79_alternatives.sql: times to offer instead of the one that was wanted

CREATE TABLE tenantcall.slot_strategy_defaults
(
    strategy text PRIMARY KEY,
    position integer NOT NULL,
    span interval NOT NULL DEFAULT '0',
    days integer NOT NULL DEFAULT 0,
    bonus_later integer NOT NULL DEFAULT 0,
    bonus_earlier integer NOT NULL DEFAULT 0,
    is_active boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE tenantcall.slot_strategy_defaults IS 'shipped: where alternative_slots() looks, in which order, and what it prefers';
REVOKE ALL ON tenantcall.slot_strategy_defaults FROM PUBLIC;
INSERT INTO tenantcall.slot_strategy_defaults (strategy, position, span, days, bonus_later, bonus_earlier) VALUES
    ('same_day', 10, '2 hours', 0, 500, 300),
    ('next_workday', 20, '0', 7, 250, 250),
    ('next_week', 30, '0', 7, 150, 150),
    ('next_available', 40, '0', 7, 100, 100),
    ('first_free', 50, '0', 14, 0, 0),
    ('preferred_day', 60, '0', 0, 500, 300),
    ('preferred_other_day', 70, '0', 14, 0, 0);

CREATE TYPE tenantcall.alternative AS
(
    starts_at timestamptz,
    ends_at timestamptz,
    local_start timestamp,
    time_zone text,
    strategy text,
    score integer
);
COMMENT ON TYPE tenantcall.alternative IS 'a free slot to offer instead, the strategy that found it, and its score';

CREATE FUNCTION tenantcall.alternative_slots(service_id bigint, wanted timestamptz, n integer DEFAULT 2,
                                             preference jsonb DEFAULT NULL, customer_id bigint DEFAULT NULL,
                                             max_wait interval DEFAULT '3 s')
    RETURNS SETOF tenantcall.alternative
    LANGUAGE C VOLATILE CALLED ON NULL INPUT PARALLEL UNSAFE ROWS 2 AS 'MODULE_PATHNAME', 'tc_alternative_slots';
COMMENT ON FUNCTION tenantcall.alternative_slots(bigint, timestamptz, integer, jsonb, bigint, interval)
    IS 'free slots to offer instead of the wanted time, the best first';
REVOKE ALL ON FUNCTION tenantcall.alternative_slots(bigint, timestamptz, integer, jsonb, bigint, interval) FROM PUBLIC;
