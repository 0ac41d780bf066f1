#!/bin/sh
# lifecycle.sh: what a row costs with a lifecycle, and with the same rules in PL/pgSQL.
#
#   eval "$(test/setup/dev env)"; test/bench/lifecycle.sh [ROWS [ROUNDS]]
#
# Moves the rows of four equal tables, in turn, in each round, all by one statement or each by a
# statement of its own: without a trigger, with
# track_lifecycle() (no audit), and with a PL/pgSQL trigger that asks a lookup table, as BEFORE
# trigger (the usual way) and as AFTER trigger (which does what ours does).  Prints medians of the
# time, and of the cost per row over no trigger in the same round; and ours as a share of PL/pgSQL's
# in the same round, the median of these, the least and the greatest (the cost of ours is so small a
# difference that single rounds scatter).  The budget is 1/5 of the cheaper one.  The tables are
# unlogged, so that the cost of writing the log does not drown what is measured.
set -eu
rows=${1:-100000}
rounds=${2:-21}
db=tc_bench_lifecycle
dir=$(mktemp -d)
trap 'psql -X -q -d postgres -c "DROP DATABASE IF EXISTS $db" || true; rm -rf "$dir"' EXIT

psql -X -q -v ON_ERROR_STOP=1 -d postgres -c "SET client_min_messages = warning" \
	-c "DROP DATABASE IF EXISTS $db" -c "CREATE DATABASE $db"
psql -X -q -v ON_ERROR_STOP=1 -v rows="$rows" -d $db >/dev/null <<'SQL'
CREATE EXTENSION tenantcall;
CREATE TABLE legal (from_state text, to_state text, PRIMARY KEY (from_state, to_state));
INSERT INTO legal SELECT state, unnest(next_states) FROM tenantcall.lifecycles WHERE lifecycle = 'call';
CREATE FUNCTION check_move() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status
       AND NOT EXISTS (SELECT FROM legal WHERE from_state = OLD.status AND to_state = NEW.status) THEN
        RAISE EXCEPTION 'illegal transition from % to %', OLD.status, NEW.status;
    END IF;
    RETURN NEW;
END
$$;
CREATE UNLOGGED TABLE bare (call_id bigint PRIMARY KEY, status text);
INSERT INTO bare SELECT i, 'inbound' FROM generate_series(1, :rows) i;
CREATE UNLOGGED TABLE tracked (LIKE bare INCLUDING ALL);
CREATE UNLOGGED TABLE plpgsql_before (LIKE bare INCLUDING ALL);
CREATE UNLOGGED TABLE plpgsql_after (LIKE bare INCLUDING ALL);
INSERT INTO tracked TABLE bare;
INSERT INTO plpgsql_before TABLE bare;
INSERT INTO plpgsql_after TABLE bare;
SELECT tenantcall.track_lifecycle('tracked', 'status');
CREATE TRIGGER check_move BEFORE UPDATE ON plpgsql_before FOR EACH ROW EXECUTE FUNCTION check_move();
CREATE TRIGGER check_move AFTER UPDATE ON plpgsql_after FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status) EXECUTE FUNCTION check_move();
ANALYZE;
SQL

tables="bare tracked plpgsql_before plpgsql_after"
single=$((rows < 5000 ? rows : 5000))

# Prints the script of one round: $1 is what moves the rows of a table
round_of()
{
	for table in $tables; do
		cat <<SQL
VACUUM $table;
BEGIN;
\\timing on
$(printf "$1" "$table")
\\timing off
ROLLBACK;
SQL
	done
}

# Runs the rounds and prints medians: $1 is the title, $2 the script, $3 the rows that it moves
measure()
{
	round=0
	rm -f "$dir/times"
	echo "$1"
	while [ $round -le "$rounds" ]; do
		# the first round warms up
		psql -X -q -v ON_ERROR_STOP=1 -d $db -f "$2" |
			sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | paste -s -d ' ' >>"$dir/times"
		round=$((round + 1))
	done
	awk -v rows="$3" -v tables="$tables" -v title="$1" -v figures="${TC_BENCH_FIGURES:-}" '
	function sort(values, n,   i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && values[j - 1] > values[j]; j--) {
				t = values[j]; values[j] = values[j - 1]; values[j - 1] = t
			}
	}
	function quantile(values, n, q,   at, low) {
		at = 1 + q * (n - 1)
		low = int(at)
		return low == n ? values[n] : values[low] + (at - low) * (values[low + 1] - values[low])
	}
	function median(values, n) {
		sort(values, n)
		return quantile(values, n, 0.5)
	}
	# the share of table c: leaves its median in share[c]
	function report_share(c, n,   r, each) {
		for (r = 1; r <= n; r++)
			each[r] = over[2, r] / over[c, r]
		share[c] = median(each, n)
		printf "tracked costs %.3f (%.3f-%.3f) of %s (budget: 0.200)\n", share[c],
			each[1], each[n], name[c]
		if (figures != "")
			printf "lifecycle\t%s: tracked / %s\t%f\t%f\t%f\t≤ 0.2\t%s\n", title, name[c], share[c],
				each[1], each[n], (share[c] > 0.2 ? "missed" : "kept") >>figures
	}
	NR > 1 { for (c = 1; c <= NF; c++) { ms[c, NR - 1] = $c; over[c, NR - 1] = ($c - $1) * 1e6 / rows } }
	END {
		n = split(tables, name, " ")
		for (c = 1; c <= n; c++) {
			for (r = 1; r < NR; r++) { a[r] = ms[c, r]; b[r] = over[c, r] }
			cost = median(b, NR - 1)
			printf "%-15s %9.1f ms %8.0f ns a row over none\n", name[c], median(a, NR - 1), cost
		}
		report_share(3, NR - 1)
		report_share(4, NR - 1)
		exit share[3] > 0.2 || share[4] > 0.2
	}' "$dir/times"
}

round_of "UPDATE %s SET status = 'ongoing';" >"$dir/bulk.sql"
round_of "DO \$\$ BEGIN FOR i IN 1..$single LOOP UPDATE %s SET status = 'ongoing' WHERE call_id = i; END LOOP; END \$\$;" \
	>"$dir/single.sql"
kept=0
measure "one statement for all rows" "$dir/bulk.sql" "$rows" || kept=1
measure "a statement for each row" "$dir/single.sql" "$single" || kept=1
exit $kept
