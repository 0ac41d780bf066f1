-- 74_maintenance.sql: what has to be done every few minutes, and who does it: pg_cron, or the worker

CREATE TABLE tenantcall.maintenance_job_defaults
(
    job text COLLATE "C" PRIMARY KEY CHECK (length(job) <= 16),
    place integer NOT NULL UNIQUE,
    schedule text NOT NULL,
    every interval NOT NULL,
    max_rows integer NOT NULL,
    enabled boolean NOT NULL,
    by_worker boolean NOT NULL,
    purpose text NOT NULL
);
COMMENT ON TABLE tenantcall.maintenance_job_defaults IS 'shipped: the jobs of maintenance, in the order in which they are run';
COMMENT ON COLUMN tenantcall.maintenance_job_defaults.schedule IS 'for pg_cron';
COMMENT ON COLUMN tenantcall.maintenance_job_defaults.every IS 'how often that is: a job that is later by twice as much is overdue';
COMMENT ON COLUMN tenantcall.maintenance_job_defaults.max_rows IS 'at most so many rows (days of usage, partitions) of each company in one run';
COMMENT ON COLUMN tenantcall.maintenance_job_defaults.by_worker IS 'the timer of the HTTP worker runs it, unless it has just been run';
REVOKE ALL ON tenantcall.maintenance_job_defaults FROM PUBLIC;
INSERT INTO tenantcall.maintenance_job_defaults VALUES
    ('holds', 1, '* * * * *', '1 minute', 1000, true, true, 'holds that are over their time: expired'),
    ('leases', 2, '* * * * *', '1 minute', 1000, true, true, 'leases of calls at once that have expired, and old inbound requests: deleted'),
    ('stuck_calls', 3, '*/10 * * * *', '10 minutes', 1000, true, true, 'calls without a sign of life: abandoned'),
    ('outbox', 4, '*/10 * * * *', '10 minutes', 1000, true, true, 'what waits to be sent and has no order any more: deleted'),
    ('partitions', 5, '7 * * * *', '1 hour', 8, true, true, 'next partitions of the audit trail: made; those older than their retention: dropped'),
    ('retention', 6, '17 * * * *', '1 hour', 10000, true, false, 'rows older than their retention: deleted'),
    ('usage', 7, '27 * * * *', '1 hour', 1000, true, false, 'usage of former days: added up');

CREATE TABLE tenantcall.maintenance_jobs
(
    job text COLLATE "C" PRIMARY KEY REFERENCES tenantcall.maintenance_job_defaults,
    schedule text CHECK (schedule ~ '\S'),
    every interval CHECK (every BETWEEN '1 second' AND '1 year'),
    max_rows integer CHECK (max_rows BETWEEN 1 AND 1000000),
    enabled boolean,
    by_worker boolean,
    CONSTRAINT maintenance_jobs_schedule_every CHECK ((schedule IS NULL) = (every IS NULL))
);
COMMENT ON TABLE tenantcall.maintenance_jobs IS 'changes to the jobs of maintenance; NULL: as shipped; a schedule changes with the next schedule_maintenance()';
REVOKE ALL ON tenantcall.maintenance_jobs FROM PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.maintenance_jobs', '');

CREATE VIEW tenantcall.maintenance_jobs_in_force AS
    SELECT d.job, d.place, coalesce(c.schedule, d.schedule) AS schedule, coalesce(c.every, d.every) AS every,
           coalesce(c.max_rows, d.max_rows) AS max_rows, coalesce(c.enabled, d.enabled) AS enabled,
           coalesce(c.by_worker, d.by_worker) AS by_worker, d.purpose, c.job IS NOT NULL AS changed
    FROM tenantcall.maintenance_job_defaults AS d LEFT JOIN tenantcall.maintenance_jobs AS c USING (job);
COMMENT ON VIEW tenantcall.maintenance_jobs_in_force IS 'the jobs of maintenance, as shipped or changed';
REVOKE ALL ON tenantcall.maintenance_jobs_in_force FROM PUBLIC;

CREATE TABLE tenantcall.maintenance_runs
(
    job text COLLATE "C" PRIMARY KEY,
    runs bigint NOT NULL DEFAULT 1,
    unfinished boolean NOT NULL DEFAULT true,
    started_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    started_by text NOT NULL,
    finished_at timestamptz,
    duration interval,
    row_count bigint,
    companies bigint,
    busy bigint,
    failed bigint,
    consecutive_failures integer NOT NULL DEFAULT 0,
    last_error text,
    last_error_at timestamptz,
    last_company bigint
) WITH (fillfactor = 50);
COMMENT ON TABLE tenantcall.maintenance_runs IS 'the last run of each job of maintenance';
COMMENT ON COLUMN tenantcall.maintenance_runs.unfinished IS 'a run has begun and not ended: it is under way, or was cut short';
COMMENT ON COLUMN tenantcall.maintenance_runs.last_company IS 'where the last run had to end for lack of time: the next goes on from there';
REVOKE ALL ON tenantcall.maintenance_runs FROM PUBLIC;

CREATE TABLE tenantcall.maintenance_schedule
(
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    scheduled_at timestamptz NOT NULL DEFAULT pg_catalog.now(),
    owner_oid oid NOT NULL,
    owner name NOT NULL,
    database name NOT NULL,
    cron_database name NOT NULL,
    cron_version text NOT NULL
);
COMMENT ON TABLE tenantcall.maintenance_schedule IS 'has a row once schedule_maintenance() has given jobs to pg_cron: whose they are, and where';
REVOKE ALL ON tenantcall.maintenance_schedule FROM PUBLIC;

CREATE PROCEDURE tenantcall.run_maintenance(job text DEFAULT NULL)
    LANGUAGE C AS 'MODULE_PATHNAME', 'tc_run_maintenance';
COMMENT ON PROCEDURE tenantcall.run_maintenance(text) IS 'runs a job of maintenance, or all that are enabled, company by company, each in a transaction of its own';
REVOKE ALL ON PROCEDURE tenantcall.run_maintenance(text) FROM PUBLIC;

CREATE FUNCTION tenantcall.expire_unplaced_rows(max_rows integer DEFAULT 10000) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_expire_unplaced_rows';
COMMENT ON FUNCTION tenantcall.expire_unplaced_rows(integer) IS 'deletes what is older than its retention and belongs to no company, at most so many rows of each table; returns how many';
REVOKE ALL ON FUNCTION tenantcall.expire_unplaced_rows(integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.reap_outbox(max_rows integer DEFAULT 1000) RETURNS bigint
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_reap_outbox';
COMMENT ON FUNCTION tenantcall.reap_outbox(integer) IS 'deletes what waits to be sent and has no unfinished order any more, at most so many rows of a company; of the entered company, else of all; returns how many';
REVOKE ALL ON FUNCTION tenantcall.reap_outbox(integer) FROM PUBLIC;

CREATE FUNCTION tenantcall.cron_database() RETURNS name
    LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tc_cron_database';
COMMENT ON FUNCTION tenantcall.cron_database() IS 'the database of pg_cron; NULL: the server does not load it';
REVOKE ALL ON FUNCTION tenantcall.cron_database() FROM PUBLIC;

-- The name of a job in pg_cron's table, where names are cut off after 63 bytes.
CREATE FUNCTION tenantcall.cron_job_name(job text, database name) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT CASE WHEN octet_length(n.name) <= 63 THEN n.name
                ELSE format('tenantcall %s in #%s', job, left(md5(database::text), 16)) END
    FROM (SELECT format('tenantcall %s in %s', job, database)) AS n (name)
$$;
COMMENT ON FUNCTION tenantcall.cron_job_name(text, name) IS 'internal: the name of a job of maintenance in pg_cron''s table';
REVOKE ALL ON FUNCTION tenantcall.cron_job_name(text, name) FROM PUBLIC;

-- What schedule_maintenance() asks of pg_cron.  Jobs of the name that this database had are ours,
-- unless that name is another's by now, or we are a copy.
CREATE FUNCTION tenantcall.cron_request(wanted boolean) RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT jsonb_build_object('database', current_database(), 'former', f.name, 'jobs', jsonb_agg(jsonb_build_object(
        'job', j.job, 'name', tenantcall.cron_job_name(j.job, current_database()),
        'former_name', tenantcall.cron_job_name(j.job, f.name), 'schedule', j.schedule,
        'command', format('CALL tenantcall.run_maintenance(%L)', j.job), 'wanted', j.enabled AND cron_request.wanted)))
    FROM tenantcall.maintenance_jobs_in_force AS j
    LEFT JOIN (SELECT s.database FROM tenantcall.maintenance_schedule AS s
               WHERE NOT EXISTS (SELECT FROM pg_database AS d WHERE d.datname = s.database)) AS f (name) ON true
    GROUP BY f.name
$$;
COMMENT ON FUNCTION tenantcall.cron_request(boolean) IS 'internal: the jobs as schedule_maintenance() gives them to pg_cron';
REVOKE ALL ON FUNCTION tenantcall.cron_request(boolean) FROM PUBLIC;

-- Writes down whose the jobs are.  A right of its own keeps the owner from being dropped.
CREATE FUNCTION tenantcall.note_schedule(owner_oid oid, cron_database text, cron_version text) RETURNS void
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    former name := (SELECT r.rolname FROM tenantcall.maintenance_schedule AS s JOIN pg_roles AS r ON r.oid = s.owner_oid
                    WHERE s.owner_oid IS DISTINCT FROM note_schedule.owner_oid
                      AND s.owner_oid <> (SELECT n.nspowner FROM pg_namespace AS n WHERE n.nspname = 'tenantcall')
                      AND NOT EXISTS (SELECT FROM tenantcall.role_kinds AS k WHERE k.role = r.rolname AND k.kind = 'admin'));
    owner_name name := (SELECT r.rolname FROM pg_roles AS r WHERE r.oid = note_schedule.owner_oid);
BEGIN
    IF former IS NOT NULL THEN
        EXECUTE format('REVOKE EXECUTE ON PROCEDURE tenantcall.run_maintenance(text) FROM %I', former);
    END IF;
    DELETE FROM tenantcall.maintenance_schedule AS s
    WHERE (s.owner_oid, s.owner, s.database, s.cron_database, s.cron_version) IS DISTINCT FROM
          (note_schedule.owner_oid, owner_name, current_database(), note_schedule.cron_database::name, note_schedule.cron_version);
    IF note_schedule.owner_oid IS NOT NULL AND NOT EXISTS (SELECT FROM tenantcall.maintenance_schedule) THEN
        INSERT INTO tenantcall.maintenance_schedule (owner_oid, owner, database, cron_database, cron_version)
        VALUES (note_schedule.owner_oid, owner_name, current_database(), note_schedule.cron_database, note_schedule.cron_version);
        EXECUTE format('GRANT EXECUTE ON PROCEDURE tenantcall.run_maintenance(text) TO %I', owner_name);
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.note_schedule(oid, text, text) IS 'internal: whose the jobs in pg_cron are; NULL: there are none';
REVOKE ALL ON FUNCTION tenantcall.note_schedule(oid, text, text) FROM PUBLIC;

CREATE FUNCTION tenantcall.schedule_maintenance() RETURNS TABLE (job text, schedule text, action text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'tc_schedule_maintenance';
COMMENT ON FUNCTION tenantcall.schedule_maintenance() IS 'gives the jobs of maintenance to pg_cron, in whatever database that is, and puts right what has been changed';
REVOKE ALL ON FUNCTION tenantcall.schedule_maintenance() FROM PUBLIC;

CREATE FUNCTION tenantcall.unschedule_maintenance() RETURNS TABLE (job text, schedule text, action text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10 AS 'MODULE_PATHNAME', 'tc_unschedule_maintenance';
COMMENT ON FUNCTION tenantcall.unschedule_maintenance() IS 'takes the jobs of maintenance of this database back from pg_cron, and no others';
REVOKE ALL ON FUNCTION tenantcall.unschedule_maintenance() FROM PUBLIC;

CREATE FUNCTION tenantcall.maintenance_status()
    RETURNS TABLE (job text, enabled boolean, schedule text, scheduled_by name, running boolean, last_start timestamptz,
                   last_end timestamptz, duration interval, row_count bigint, companies bigint, busy bigint, failed bigint,
                   consecutive_failures integer, last_error text, last_error_at timestamptz, problem text)
    LANGUAGE sql STABLE PARALLEL SAFE ROWS 10
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT j.job, j.enabled, j.schedule, s.owner, k.locked, r.started_at, r.finished_at, r.duration, r.row_count, r.companies,
           r.busy, r.failed, coalesce(r.consecutive_failures + (r.unfinished AND NOT k.locked)::integer, 0), r.last_error, r.last_error_at,
           CASE WHEN NOT j.enabled THEN NULL
                WHEN s.problem IS NOT NULL THEN s.problem
                WHEN r.unfinished AND NOT k.locked
                    THEN 'The last run was cut short, by a crash or by somebody: the next goes on.'
                WHEN r.consecutive_failures > 0 THEN 'It fails: see last_error.'
                WHEN greatest(r.started_at, s.scheduled_at) < now() - 3 * j.every - interval '1 minute' AND s.owner IS NOT NULL
                    THEN format('pg_cron does not run it: see cron.job and cron.job_run_details in database "%s".', s.cron_database)
                WHEN s.owner IS NULL AND NOT j.by_worker AND coalesce(r.started_at < now() - 3 * j.every, true)
                    THEN 'Nobody runs it: call tenantcall.schedule_maintenance(), or CALL tenantcall.run_maintenance() now and then.'
                WHEN s.owner IS NULL AND coalesce(r.started_at < now() - 3 * j.every - interval '10 minutes', true)
                    THEN 'Nobody has run it: call tenantcall.schedule_maintenance(), or have an HTTP worker (tenantcall.worker_databases).'
                WHEN r.busy > 0 THEN 'What others have locked was left for the next run.'
           END
    FROM tenantcall.maintenance_jobs_in_force AS j
    LEFT JOIN tenantcall.maintenance_runs AS r USING (job)
    LEFT JOIN (SELECT s.*, CASE
        WHEN tenantcall.cron_database() IS NULL
            THEN 'The server no longer loads pg_cron: add it to shared_preload_libraries and restart.'
        WHEN tenantcall.cron_database() <> s.cron_database
            THEN format('pg_cron is no longer in database "%s": call tenantcall.schedule_maintenance().', s.cron_database)
        WHEN r.oid IS NULL
            THEN format('Role "%s", whose jobs they are, was dropped: pg_cron runs no job of anybody until, as a superuser, '
                        'you call tenantcall.schedule_maintenance().', s.owner)
        WHEN r.rolname <> s.owner
            THEN format('Role "%s", whose jobs they are, is called "%s" now: pg_cron runs no job of anybody until, as a superuser, '
                        'you call tenantcall.schedule_maintenance().', s.owner, r.rolname)
        WHEN NOT r.rolcanlogin
            THEN format('Role "%s", whose jobs they are, may not log in: ALTER ROLE %I LOGIN, or have a superuser call '
                        'tenantcall.schedule_maintenance().', s.owner, s.owner)
        WHEN s.database <> current_database()
            THEN format('This database was called "%s" when they were scheduled: call tenantcall.schedule_maintenance().', s.database)
        END AS problem
               FROM tenantcall.maintenance_schedule AS s LEFT JOIN pg_roles AS r ON r.oid = s.owner_oid) AS s ON j.enabled
    CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM pg_locks AS l
        WHERE l.locktype = 'object' AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND l.classid = 'tenantcall.maintenance_runs'::regclass AND l.objid = j.place AND l.granted)) AS k (locked)
    ORDER BY j.place
$$;
COMMENT ON FUNCTION tenantcall.maintenance_status() IS 'each job of maintenance: whose it is in pg_cron, its last run, and what is wrong with it';
REVOKE ALL ON FUNCTION tenantcall.maintenance_status() FROM PUBLIC;
