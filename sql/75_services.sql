-- 75_services.sql: which service a caller gets, and the keys of the application's slot caches

CREATE TYPE tenantcall.service_choice AS
(
    company_id bigint,
    branch_id bigint,
    service_id bigint,
    name text,
    duration interval,
    calcom_event_type_id bigint,
    calcom_team_id bigint,
    reason text
);
COMMENT ON TYPE tenantcall.service_choice IS 'a service as a branch offers it, and the rule that chose it';

-- A name without what people and machines write differently: case, punctuation, white space.
CREATE FUNCTION tenantcall.plain_name(name text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp
    AS $$ SELECT nullif(btrim(regexp_replace(lower(name), '[^[:alnum:]]+', ' ', 'g')), '') $$;
COMMENT ON FUNCTION tenantcall.plain_name(text) IS 'internal: a name in lower case, with single spaces between its words and nothing else';
REVOKE ALL ON FUNCTION tenantcall.plain_name(text) FROM PUBLIC;

-- The candidates are the active services of the company whose event type is known, in the branch
-- or else in general.  A service that is assigned to branches (branch_services) is offered there
-- and nowhere else; one that is assigned to none, and the company's default, in every branch.
-- Without a branch all services count that have an event type of their own.
--
-- Of the candidates the first wins, in the order: default of the branch, default of the company,
-- smaller priority number (that of the branch, if it has one), smaller id.  A name narrows the
-- candidates first: to those that bear it, else those that begin so, else those that contain it,
-- else those that have it as a synonym (the most confident first), else those that are at least
-- three quarters similar by trigrams (pg_trgm).  Case of letters, and what is neither letter nor
-- digit, make no difference.  A blank name is none.
--
-- When the choice turns out not to serve (its calendar is not to be had, or full), the caller
-- excludes it and gets the next.
CREATE FUNCTION tenantcall.select_service(name text DEFAULT NULL, branch_id bigint DEFAULT NULL,
                                          exclude bigint[] DEFAULT NULL)
    RETURNS tenantcall.service_choice
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    company bigint := tenantcall.current_company_id();
    branch bigint := coalesce(select_service.branch_id, tenantcall.current_branch_id());
    -- what has neither letters nor digits is no name, and fits none
    wanted text := coalesce(tenantcall.plain_name(select_service.name), nullif(btrim(select_service.name, E' \t\r\n'), ''));
    trigrams name := (SELECT n.nspname FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
                      WHERE e.extname = 'pg_trgm');
    tables_schema name := (SELECT i.schema_name FROM tenantcall.installation AS i);
    known boolean;
    choice tenantcall.service_choice;
BEGIN
    IF company IS NULL THEN
        RAISE EXCEPTION 'no tenant in this transaction'
            USING ERRCODE = 'PT403', DETAIL = 'A service is chosen among those of one company.',
                  HINT = 'Call tenantcall.enter_token() or tenantcall.enter() first, in the same transaction.';
    END IF;
    IF tables_schema IS NULL THEN
        RAISE EXCEPTION 'the tables of tenantcall do not exist in this database'
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A superuser makes them with SELECT tenantcall.create_tables().';
    END IF;
    IF branch IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %s AS b WHERE b.company_id = $1 AND b.branch_id = $2)',
                       tenantcall.table_here('branches')) INTO known USING company, branch;
        IF NOT known THEN
            RAISE EXCEPTION 'company % has no branch %', company, branch
                USING ERRCODE = 'PT404', HINT = 'Table branches lists the branches of the company.';
        END IF;
    END IF;
    EXECUTE format($query$
        WITH candidate AS (
            SELECT s.service_id, s.name, s.duration,
                   coalesce(o.calcom_event_type_id, s.calcom_event_type_id) AS event_type_id,
                   coalesce(o.calcom_team_id, s.calcom_team_id) AS team_id,
                   coalesce(o.is_default, false) AS branch_default, s.is_default AS company_default,
                   coalesce(o.priority, s.priority) AS priority,
                   CASE WHEN $3 IS NULL THEN 0
                        WHEN p.plain = $3 THEN 1
                        WHEN starts_with(p.plain, $3) THEN 2
                        WHEN strpos(p.plain, $3) > 0 THEN 3
                        WHEN y.confidence IS NOT NULL THEN 4
                        WHEN %2$s >= 0.75 THEN 5 END AS likeness,
                   CASE WHEN p.plain = $3 OR strpos(p.plain, $3) > 0 THEN 1
                        WHEN y.confidence IS NOT NULL THEN y.confidence ELSE %2$s END AS confidence
            FROM %1$s AS s
            CROSS JOIN LATERAL tenantcall.plain_name(s.name) AS p (plain)
            LEFT JOIN LATERAL (SELECT max(a.confidence) FROM %3$s AS a
                               WHERE (a.company_id, a.service_id) = (s.company_id, s.service_id)
                               AND tenantcall.plain_name(a.synonym) = $3) AS y (confidence) ON true
            LEFT JOIN %4$s AS o
                ON (o.company_id, o.service_id, o.branch_id) = (s.company_id, s.service_id, $2)
            WHERE s.company_id = $1 AND s.is_active AND coalesce(o.is_active, true)
              AND s.service_id <> ALL (coalesce($4, '{}'))
              AND coalesce(o.calcom_event_type_id, s.calcom_event_type_id) IS NOT NULL
              AND ($2 IS NULL OR o.service_id IS NOT NULL OR s.is_default
                   OR NOT EXISTS (SELECT FROM %4$s AS e
                                  WHERE (e.company_id, e.service_id) = (s.company_id, s.service_id)))
        )
        SELECT $1, $2, c.service_id, c.name, c.duration, c.event_type_id, c.team_id,
               CASE c.likeness
                   WHEN 1 THEN 'exact_name' WHEN 2 THEN 'name_prefix' WHEN 3 THEN 'name_part'
                   WHEN 4 THEN 'synonym' WHEN 5 THEN 'similar_name'
                   ELSE CASE WHEN c.branch_default THEN 'branch_default'
                             WHEN c.company_default THEN 'company_default'
                             WHEN count(*) OVER () = 1 THEN 'only_service'
                             WHEN count(*) OVER (PARTITION BY c.priority) = 1 THEN 'priority'
                             ELSE 'smallest_id' END END
        FROM candidate AS c
        WHERE c.likeness IS NOT NULL
        ORDER BY c.likeness, c.confidence DESC, c.branch_default DESC, c.company_default DESC, c.priority, c.service_id
        LIMIT 1
        $query$, tenantcall.table_here('services'),
        CASE WHEN trigrams IS NULL THEN '0' ELSE format('%I.similarity(p.plain, $3)', trigrams) END,
        tenantcall.table_here('service_synonyms'), tenantcall.table_here('branch_services'))
        INTO choice USING company, branch, wanted, exclude;
    IF choice.service_id IS NULL THEN
        RAISE EXCEPTION 'no service to choose'
            USING ERRCODE = 'PT404',
                  DETAIL = format('Company %s has no active service%s with a known event type%s.', company,
                                  coalesce(' named like ' || quote_literal(wanted), ''),
                                  coalesce(' in branch ' || branch, '')),
                  HINT = 'See tables services and branch_services: is_active, calcom_event_type_id.';
    END IF;
    RETURN choice;
END
$$;
COMMENT ON FUNCTION tenantcall.select_service(text, bigint, bigint[]) IS 'chooses a service of the entered company by name, or by rule: default of the branch, default of the company, priority, id';
REVOKE ALL ON FUNCTION tenantcall.select_service(text, bigint, bigint[]) FROM PUBLIC;

-- The key of a day's slots, as the application writes it.  The team is what carries the tenant: a
-- company without one has no such key (the application wrote one that all of these shared).  Nor
-- is 0 an id: it is how many languages write a missing one.
CREATE FUNCTION tenantcall.slot_cache_key(team_id bigint, event_type_id bigint, day date) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    date text := to_char(day::timestamp, 'YYYY-MM-DD');
BEGIN
    IF num_nulls(team_id, event_type_id, day) > 0 THEN
        RAISE EXCEPTION 'no argument may be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'Slots of an event type without a team would be shared between tenants.',
                  HINT = 'Without a team, use tenantcall.alternatives_cache_key(), or do not cache.';
    ELSIF least(team_id, event_type_id) <= 0 THEN
        RAISE EXCEPTION 'ids must be positive' USING ERRCODE = 'invalid_parameter_value';
    ELSIF NOT isfinite(day) OR extract(year FROM day) < 1 THEN
        RAISE EXCEPTION 'argument "day" is out of range' USING ERRCODE = 'datetime_field_overflow';
    END IF;
    RETURN format('calcom:slots:%s:%s:%s:%s', team_id, event_type_id, date, date);
END
$$;
COMMENT ON FUNCTION tenantcall.slot_cache_key(bigint, bigint, date) IS 'cache key calcom:slots:{teamId}:{eventTypeId}:{date}:{date}';
REVOKE ALL ON FUNCTION tenantcall.slot_cache_key(bigint, bigint, date) FROM PUBLIC;

-- The key of alternatives in a window, as the application writes it.  Hours are those of UTC, so
-- that no two hours share a key when clocks are set back.  Windows that begin in one hour and end
-- in one hour share a key: load whole hours.  Ids are numbers: the application formatted uuids
-- with %d, and got one key for many branches.
CREATE FUNCTION tenantcall.alternatives_cache_key(company_id bigint, branch_id bigint, event_type_id bigint,
                                                  from_time timestamptz, to_time timestamptz) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
BEGIN
    IF num_nulls(company_id, branch_id, event_type_id, from_time, to_time) > 0 THEN
        RAISE EXCEPTION 'no argument may be NULL'
            USING ERRCODE = 'null_value_not_allowed',
                  DETAIL = 'A key that lacks one would be shared between companies, branches or windows.',
                  HINT = 'Without it, do not cache.';
    ELSIF least(company_id, branch_id, event_type_id) <= 0 THEN
        RAISE EXCEPTION 'ids must be positive' USING ERRCODE = 'invalid_parameter_value';
    ELSIF NOT isfinite(from_time) OR NOT isfinite(to_time)
          OR extract(year FROM from_time AT TIME ZONE 'UTC') < 1 THEN
        RAISE EXCEPTION 'the window is out of range' USING ERRCODE = 'datetime_field_overflow';
    ELSIF from_time > to_time THEN
        RAISE EXCEPTION 'argument "to_time" is before "from_time"' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN format('cal_slots_%s_%s_%s_%s_%s', company_id, branch_id, event_type_id,
                  to_char(from_time AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24'),
                  to_char(to_time AT TIME ZONE 'UTC', 'YYYY-MM-DD-HH24'));
END
$$;
COMMENT ON FUNCTION tenantcall.alternatives_cache_key(bigint, bigint, bigint, timestamptz, timestamptz) IS 'cache key cal_slots_{companyId}_{branchId}_{eventTypeId}_{date-hour}_{date-hour}, hours in UTC';
REVOKE ALL ON FUNCTION tenantcall.alternatives_cache_key(bigint, bigint, bigint, timestamptz, timestamptz) FROM PUBLIC;
