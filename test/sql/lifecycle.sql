-- Lifecycles: rules, the trigger, the audit trail

CREATE SCHEMA test_lifecycle;
SET search_path = test_lifecycle, tenantcall;

-- the shipped lifecycle
SELECT state, rank, is_initial, is_terminal, next_states FROM lifecycles
WHERE lifecycle = 'call' ORDER BY rank, state;
-- what backends keep in memory is what the view says, for every pair of states
SELECT count(*) AS pairs, count(*) FILTER (WHERE can_transition('call', f.state, t.state)) AS legal,
       count(*) FILTER (WHERE can_transition('call', f.state, t.state) <> (t.state = ANY (f.next_states))) AS wrong
FROM lifecycles f, lifecycles t WHERE f.lifecycle = 'call' AND t.lifecycle = 'call';
SELECT next_states('call', 'abandoned');
SELECT next_states('call', 'analyzed');

-- rules: bad input
\set VERBOSITY terse
SELECT can_transition('visit', 'inbound', 'ongoing');
\echo :LAST_ERROR_SQLSTATE
SELECT can_transition('call', 'inbound', 'ringing');
\echo :LAST_ERROR_SQLSTATE
SELECT can_transition('call', NULL, 'ongoing');
\echo :LAST_ERROR_SQLSTATE
SELECT can_transition(NULL, 'inbound', 'ongoing');
SELECT can_transition('', 'inbound', 'ongoing');
SELECT can_transition(repeat('x', 64), 'inbound', 'ongoing') AS never;
\echo :LAST_ERROR_SQLSTATE
SELECT next_states('call', 'ringing');
\echo :LAST_ERROR_SQLSTATE
SELECT next_states('call', NULL);
\set VERBOSITY default

-- the naive version, as found in the origin: a warning, then written anyway
CREATE TABLE legal (from_state text, to_state text);
INSERT INTO legal SELECT state, unnest(next_states) FROM lifecycles WHERE lifecycle = 'call';
CREATE TABLE naive_calls (call_id int PRIMARY KEY, status text);
CREATE FUNCTION naive() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM legal WHERE (from_state, to_state) = (OLD.status, NEW.status)) THEN
        RAISE WARNING 'invalid transition from % to %', OLD.status, NEW.status;
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER naive BEFORE UPDATE ON naive_calls FOR EACH ROW EXECUTE FUNCTION naive();
INSERT INTO naive_calls VALUES (1, 'completed');
-- a late call_started reopens the finished call
UPDATE naive_calls SET status = 'ongoing';
SELECT status FROM naive_calls;

-- the same with a lifecycle
CREATE TABLE calls (call_id int PRIMARY KEY, status text, note text);
CREATE TABLE moves (
    n int GENERATED ALWAYS AS IDENTITY, relation text, key text, from_state text, to_state text,
    at timestamptz, by_role text, reason text, event text
);
SELECT track_lifecycle('calls', 'status', audit => 'moves');
SELECT * FROM tracked_tables WHERE relation = 'calls'::regclass;
INSERT INTO calls VALUES (1, 'completed');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO calls VALUES (1, 'ringing');
\echo :LAST_ERROR_SQLSTATE
INSERT INTO calls VALUES (1, NULL);
\echo :LAST_ERROR_SQLSTATE
INSERT INTO calls VALUES (1, 'inbound');
UPDATE calls SET status = 'completed';
UPDATE calls SET status = 'ongoing';
\echo :LAST_ERROR_SQLSTATE
UPDATE calls SET status = 'ringing';
UPDATE calls SET status = NULL;
UPDATE calls SET status = 'Completed';
-- no move
UPDATE calls SET status = 'completed', note = 'same';
SET tenantcall.reason = 'retell says so';
SET tenantcall.event = 'call_analyzed';
UPDATE calls SET status = 'analyzed';
RESET tenantcall.reason;
RESET tenantcall.event;
UPDATE calls SET status = 'ongoing';
SELECT key, from_state, to_state, by_role = current_user AS mine, reason, event,
       at <= clock_timestamp() AS timed, relation FROM moves ORDER BY n;
-- the trail tells the moves of one transaction in their order
SELECT bool_and(earlier IS NULL OR at >= earlier) AS ordered
FROM (SELECT at, lag(at) OVER (ORDER BY n) AS earlier FROM moves) m;

-- every pair of states, by UPDATE: what the rules say is what happens
CREATE FUNCTION try_move(from_state text, to_state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    CREATE TEMPORARY TABLE trial (call_id int PRIMARY KEY, status text) ON COMMIT DROP;
    INSERT INTO trial VALUES (1, $1);
    PERFORM tenantcall.track_lifecycle('trial', 'status');
    UPDATE trial SET status = $2;
    DROP TABLE trial;
    RETURN 'moved';
EXCEPTION WHEN SQLSTATE 'PT409' THEN
    RETURN 'refused';
END
$$;
SELECT try_move(f.state, t.state) AS outcome, f.state = t.state AS same,
       can_transition('call', f.state, t.state) AS legal, count(*)
FROM lifecycles f, lifecycles t WHERE f.lifecycle = 'call' AND t.lifecycle = 'call'
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3;
-- every state, by INSERT
CREATE FUNCTION try_begin(state text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO calls (call_id, status) VALUES (-1, $1);
    DELETE FROM calls WHERE call_id = -1;
    RETURN true;
EXCEPTION WHEN SQLSTATE 'PT409' THEN
    RETURN false;
END
$$;
SELECT state, try_begin(state) FROM lifecycles WHERE lifecycle = 'call' ORDER BY rank, state;

-- however it is made
\set VERBOSITY terse
INSERT INTO calls VALUES (2, 'inbound');
-- an upsert is judged by what happens: a beginning, or a move
INSERT INTO calls VALUES (2, 'completed') ON CONFLICT (call_id) DO UPDATE SET status = excluded.status;
INSERT INTO calls VALUES (2, 'ongoing') ON CONFLICT (call_id) DO UPDATE SET status = excluded.status;
INSERT INTO calls VALUES (3, 'completed') ON CONFLICT (call_id) DO UPDATE SET status = excluded.status;
MERGE INTO calls c USING (VALUES (2, 'ongoing')) v (id, s) ON c.call_id = v.id
    WHEN MATCHED THEN UPDATE SET status = v.s;
MERGE INTO calls c USING (VALUES (4, 'failed')) v (id, s) ON c.call_id = v.id
    WHEN NOT MATCHED THEN INSERT (call_id, status) VALUES (v.id, v.s);
MERGE INTO calls c USING (VALUES (2, 'analyzed'), (4, 'outbound')) v (id, s) ON c.call_id = v.id
    WHEN MATCHED THEN UPDATE SET status = v.s
    WHEN NOT MATCHED THEN INSERT (call_id, status) VALUES (v.id, v.s);
COPY calls (call_id, status) FROM stdin;
5	ongoing
\.
COPY calls (call_id, status) FROM stdin;
5	inbound
6	outbound
\.
WITH moved AS (UPDATE calls SET status = 'inbound' WHERE call_id = 2 RETURNING call_id) TABLE moved;
SET session_replication_role = replica;
UPDATE calls SET status = 'ongoing' WHERE call_id = 2;
INSERT INTO calls VALUES (7, 'analyzed');
RESET session_replication_role;
DO $$ BEGIN UPDATE calls SET status = 'analyzed' WHERE call_id = 5; END $$;
-- one illegal row undoes the statement
UPDATE calls SET status = 'completed';
SELECT call_id, status FROM calls ORDER BY call_id;
-- a BEFORE trigger of any name cannot slip a state past it
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.status := 'analyzed'; RETURN NEW; END
$$;
CREATE TRIGGER zzzz_meddle BEFORE INSERT OR UPDATE ON calls FOR EACH ROW EXECUTE FUNCTION meddle();
UPDATE calls SET note = 'harmless' WHERE call_id = 5;
INSERT INTO calls VALUES (8, 'inbound');
DROP TRIGGER zzzz_meddle ON calls;
-- several rows, and a savepoint
BEGIN;
UPDATE calls SET status = 'ongoing' WHERE call_id IN (5, 6);
SAVEPOINT s;
UPDATE calls SET status = 'inbound' WHERE call_id = 5;
ROLLBACK TO s;
UPDATE calls SET status = 'completed' WHERE call_id = 5;
COMMIT;
SELECT key, from_state, to_state FROM moves WHERE key IN ('5', '6') ORDER BY n;

-- a role that may move rows needs no right to the audit table, and has none
CREATE ROLE regress_tc_lifecycle_app;
GRANT USAGE ON SCHEMA test_lifecycle TO regress_tc_lifecycle_app;
GRANT SELECT, UPDATE ON calls TO regress_tc_lifecycle_app;
SET ROLE regress_tc_lifecycle_app;
UPDATE calls SET status = 'completed' WHERE call_id = 6;
UPDATE calls SET status = 'ongoing' WHERE call_id = 6;
INSERT INTO moves (key) VALUES ('forged');
SELECT track_lifecycle('calls', 'status');
RESET ROLE;
GRANT EXECUTE ON FUNCTION track_lifecycle TO regress_tc_lifecycle_app;
SET ROLE regress_tc_lifecycle_app;
SELECT track_lifecycle('calls', 'status');
\echo :LAST_ERROR_SQLSTATE
-- with the right, of tables of its own alone
RESET ROLE;
SELECT grant_tracking('regress_tc_lifecycle_app');
SELECT grant_tracking(NULL);
CREATE TABLE owned (call_id int PRIMARY KEY, status text);
CREATE TABLE owned_moves (LIKE moves INCLUDING IDENTITY);
ALTER TABLE owned OWNER TO regress_tc_lifecycle_app;
ALTER TABLE owned_moves OWNER TO regress_tc_lifecycle_app;
SET ROLE regress_tc_lifecycle_app;
SELECT track_lifecycle('calls', 'status');
\echo :LAST_ERROR_SQLSTATE
SELECT untrack_lifecycle('calls');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('owned', 'status', audit => 'moves');
SELECT track_lifecycle('owned', 'status', audit => 'owned_moves');
INSERT INTO owned VALUES (1, 'inbound');
UPDATE owned SET status = 'completed';
UPDATE owned SET status = 'inbound';
SELECT from_state, to_state, by_role FROM owned_moves;
SELECT untrack_lifecycle('owned');
RESET ROLE;
SELECT check_name FROM tenantcall.check_isolation() WHERE object = 'regress_tc_lifecycle_app';
SELECT tenantcall.revoke_role('regress_tc_lifecycle_app');
SELECT has_function_privilege('regress_tc_lifecycle_app', 'lifecycle_trigger()', 'EXECUTE');
SELECT key, from_state, to_state, by_role FROM moves WHERE by_role = 'regress_tc_lifecycle_app';

-- tracked tables: bad input
CREATE TABLE odd (id int, status int, label text);
CREATE VIEW odd_view AS SELECT * FROM odd;
CREATE TABLE poor_moves (relation text, key text);
SELECT track_lifecycle(NULL, 'status');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('calls', NULL);
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('calls', 'status', NULL);
SELECT track_lifecycle('calls', 'missing');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('odd', 'status');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('odd', 'ctid');
SELECT track_lifecycle('odd_view', 'label');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('calls', 'status', 'visit');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('calls', 'status', audit => 'poor_moves');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('odd', 'label', audit => 'moves');
\echo :LAST_ERROR_SQLSTATE
SELECT untrack_lifecycle('odd');
\echo :LAST_ERROR_SQLSTATE
CREATE TRIGGER wrong BEFORE UPDATE ON odd FOR EACH ROW EXECUTE FUNCTION lifecycle_trigger('call', 'label', '');
CREATE TRIGGER wrong_too AFTER INSERT ON odd FOR EACH ROW EXECUTE FUNCTION lifecycle_trigger('call');
INSERT INTO odd VALUES (1, 1, 'inbound');
\echo :LAST_ERROR_SQLSTATE
DROP TRIGGER wrong_too ON odd;
INSERT INTO odd VALUES (1, 1, 'inbound');
UPDATE odd SET label = 'ongoing';
\echo :LAST_ERROR_SQLSTATE
-- what the trigger needs was taken away: refused, not let pass
ALTER TABLE moves RENAME TO moved_away;
UPDATE calls SET status = 'analyzed' WHERE call_id = 6;
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE moved_away RENAME TO moves;
ALTER TABLE calls RENAME COLUMN status TO state;
UPDATE calls SET state = 'analyzed' WHERE call_id = 6;
\echo :LAST_ERROR_SQLSTATE
ALTER TABLE calls RENAME COLUMN state TO status;
-- again, and never
SELECT track_lifecycle('calls', 'status');
SELECT * FROM tracked_tables WHERE relation = 'calls'::regclass;
SELECT untrack_lifecycle('calls');
UPDATE calls SET status = 'ongoing' WHERE call_id = 6;
-- a row from before that is in no state of the lifecycle stays where it is
UPDATE calls SET status = 'ringing' WHERE call_id = 6;
UPDATE calls SET status = NULL WHERE call_id = 5;
SELECT track_lifecycle('calls', 'status');
\set VERBOSITY default
UPDATE calls SET status = 'completed' WHERE call_id = 6;
UPDATE calls SET note = 'fine' WHERE call_id IN (5, 6);
-- one that is in none may begin
UPDATE calls SET status = 'ongoing' WHERE call_id = 5;
UPDATE calls SET status = 'inbound' WHERE call_id = 5;

-- partitions: rows that move to another one move by the rules, and are recorded once
CREATE TABLE parted (company_id int, call_id int, status text, PRIMARY KEY (company_id, call_id, status))
    PARTITION BY LIST (status);
CREATE TABLE parted_open PARTITION OF parted FOR VALUES IN ('inbound', 'outbound', 'ongoing');
CREATE TABLE parted_closed PARTITION OF parted DEFAULT;
CREATE TABLE parted_moves (company_id bigint, LIKE moves);
ALTER TABLE parted_moves ALTER n ADD GENERATED ALWAYS AS IDENTITY;
SELECT track_lifecycle('parted', 'status', audit => 'parted_moves');
CREATE TABLE parted_analyzed (status text NOT NULL, call_id int NOT NULL, company_id int NOT NULL);
ALTER TABLE parted_analyzed ADD PRIMARY KEY (company_id, call_id, status);
ALTER TABLE parted ATTACH PARTITION parted_analyzed FOR VALUES IN ('analyzed');
SELECT tgrelid::regclass, tgname, tgenabled FROM pg_trigger
WHERE tgfoid = 'lifecycle_trigger'::regproc AND tgrelid::regclass::text LIKE 'parted%'
ORDER BY tgrelid::regclass::text COLLATE "C", tgname;
INSERT INTO parted VALUES (1, 1, 'inbound'), (2, 1, 'outbound'), (2, 2, 'inbound');
\set VERBOSITY terse
INSERT INTO parted VALUES (1, 2, 'completed');
INSERT INTO parted_closed VALUES (1, 2, 'completed');
UPDATE parted SET status = 'ongoing';
UPDATE parted SET status = 'completed';
UPDATE parted SET status = 'analyzed' WHERE company_id = 2 AND call_id = 1;
UPDATE parted SET status = 'ongoing' WHERE company_id = 1;
UPDATE parted SET status = 'ongoing' WHERE company_id = 2 AND call_id = 1;
-- a departure is good for one arrival: not for a row deleted and written anew
WITH gone AS (DELETE FROM parted WHERE company_id = 1 RETURNING *)
INSERT INTO parted SELECT company_id, call_id, 'analyzed' FROM gone;
BEGIN;
DELETE FROM parted WHERE company_id = 1;
INSERT INTO parted VALUES (1, 1, 'analyzed');
ROLLBACK;
SELECT tableoid::regclass, * FROM parted ORDER BY company_id, call_id;
SELECT company_id, relation, key, from_state, to_state FROM parted_moves ORDER BY n;
SET session_replication_role = replica;
UPDATE parted SET status = 'ongoing';
RESET session_replication_role;

-- scoped tables: tracked by their owner, who is no superuser; moved by an app; recorded for the
-- company of the row, although row security binds the owner of the audit table, too
CREATE ROLE regress_tc_lifecycle_owner;
GRANT USAGE, CREATE ON SCHEMA test_lifecycle TO regress_tc_lifecycle_owner;
GRANT EXECUTE ON FUNCTION track_lifecycle, require_trackable, lifecycle_verify, drop_lifecycle_trigger, lifecycle_trigger
    TO regress_tc_lifecycle_owner;
SET ROLE regress_tc_lifecycle_owner;
CREATE TABLE scoped_calls (company_id bigint, call_id int, status text, PRIMARY KEY (company_id, call_id));
CREATE TABLE scoped_moves (
    n int GENERATED ALWAYS AS IDENTITY, company_id bigint, relation regclass, key text, from_state text,
    to_state text, at timestamptz, by_role text, reason text, event text
);
SELECT track_lifecycle('scoped_calls', 'status', audit => 'parted_moves');
\echo :LAST_ERROR_SQLSTATE
SELECT track_lifecycle('scoped_calls', 'status', audit => 'scoped_moves');
GRANT SELECT, INSERT, UPDATE ON scoped_calls TO regress_tc_lifecycle_app;
RESET ROLE;
SELECT scope_table('scoped_calls'), scope_table('scoped_moves');
SELECT create_company('regress lifecycle 1', 'DE', 'Europe/Berlin') AS first,
       create_company('regress lifecycle 2', 'DE', 'Europe/Berlin') AS second \gset
BEGIN;
SELECT enter(:first);
SET LOCAL ROLE regress_tc_lifecycle_app;
INSERT INTO scoped_calls (call_id, status) VALUES (1, 'inbound');
UPDATE scoped_calls SET status = 'completed';
COMMIT;
BEGIN;
SELECT enter(:second);
SET LOCAL ROLE regress_tc_lifecycle_app;
INSERT INTO scoped_calls (call_id, status) VALUES (1, 'outbound');
UPDATE scoped_calls SET status = 'not_connected';
COMMIT;
SELECT company_id = :first AS of_first, relation, key, from_state, to_state, by_role FROM scoped_moves ORDER BY n;

-- columns of other types: varchar, domain, enum; other collations
CREATE DOMAIN state_text AS varchar(20);
CREATE TYPE state_enum AS ENUM ('analyzed', 'ongoing', 'inbound', 'completed', 'ringing');
CREATE COLLATION caseless (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE typed (id int PRIMARY KEY, v varchar(20), d state_text, e state_enum, c text COLLATE caseless);
SELECT track_lifecycle('typed', 'v');
INSERT INTO typed VALUES (1, 'inbound', 'inbound', 'inbound', 'inbound');
UPDATE typed SET v = 'completed';
UPDATE typed SET v = 'inbound';
SELECT track_lifecycle('typed', 'd');
UPDATE typed SET d = 'completed';
UPDATE typed SET d = 'inbound';
SELECT track_lifecycle('typed', 'e');
UPDATE typed SET e = 'completed';
UPDATE typed SET e = 'ringing';
UPDATE typed SET e = 'inbound';
SELECT track_lifecycle('typed', 'c');
UPDATE typed SET c = 'INBOUND';
UPDATE typed SET c = repeat('x', 100000);
TABLE typed;

-- lifecycles of one's own, and changes of the shipped one
SELECT set_lifecycle_state('visit', 'planned', 1, is_initial => true);
SELECT set_lifecycle_state('visit', 'seen', 2, is_terminal => true);
SELECT set_transition('visit', 'planned', 'seen');
SELECT set_transition('visit', 'seen', 'planned');
\echo :LAST_ERROR_SQLSTATE
SELECT set_transition('visit', 'planned', 'lost');
\echo :LAST_ERROR_SQLSTATE
SELECT set_transition('visit', NULL, 'seen');
\echo :LAST_ERROR_SQLSTATE
SELECT set_lifecycle_state('visit', NULL, 1);
SELECT set_lifecycle_state('visit', repeat('x', 64), 1);
\echo :LAST_ERROR_SQLSTATE
SELECT set_lifecycle_state('visit', '', 1);
SELECT count(set_lifecycle_state('visit', 's' || i, i)) FROM generate_series(3, 65) i;
\echo :LAST_ERROR_SQLSTATE
SELECT drop_lifecycle_state('visit', 'lost');
\echo :LAST_ERROR_SQLSTATE
CREATE TABLE visits (id int PRIMARY KEY, state text DEFAULT 'planned');
SELECT track_lifecycle('visits', 'state', 'visit');
INSERT INTO visits VALUES (1);
UPDATE visits SET state = 'seen';
UPDATE visits SET state = 'planned';
-- rules act at once in their own transaction, and not at all if it rolls back
BEGIN;
SELECT set_lifecycle_state('call', 'voicemail', 30);
SELECT set_transition('call', 'ongoing', 'voicemail'), set_transition('call', 'ongoing', 'completed', false);
SELECT next_states('call', 'ongoing');
SAVEPOINT s;
SELECT drop_lifecycle_state('call', 'abandoned');
SELECT next_states('call', 'ongoing');
ROLLBACK TO s;
SELECT can_transition('call', 'ongoing', 'abandoned');
ROLLBACK;
SELECT next_states('call', 'ongoing');
SELECT can_transition('call', 'ongoing', 'voicemail');
-- back to what is shipped leaves no trace
SELECT set_transition('call', 'ongoing', 'completed', false), can_transition('call', 'ongoing', 'completed') AS before;
SELECT can_transition('call', 'ongoing', 'completed') AS after;
TABLE lifecycle_transitions ORDER BY lifecycle, from_state, to_state;
SELECT set_transition('call', 'ongoing', 'completed');
SELECT can_transition('call', 'ongoing', 'completed');
SELECT count(*) FROM lifecycle_transitions WHERE lifecycle = 'call';
SELECT drop_lifecycle_state('visit', 'seen');
SELECT drop_lifecycle_state('visit', 'planned');
UPDATE visits SET state = 'planned';
\echo :LAST_ERROR_SQLSTATE

-- dumped: the changes, not what is shipped
SELECT c.relname FROM pg_extension e, unnest(e.extconfig) o JOIN pg_class c ON c.oid = o
WHERE extname = 'tenantcall' AND relname LIKE 'lifecycle%' ORDER BY relname;

RESET search_path;
SET client_min_messages = warning;
DROP SCHEMA test_lifecycle CASCADE;
DROP OWNED BY regress_tc_lifecycle_app, regress_tc_lifecycle_owner;
DROP ROLE regress_tc_lifecycle_app, regress_tc_lifecycle_owner;
