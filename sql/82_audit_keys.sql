-- 82_audit_keys.sql: check_isolation() of unique, exclusion and foreign keys
--
-- Their checks bypass row security: one that does not hold the company tells whether another
-- company has a value, refers to its rows, or changes them.  The directory is the exception:
-- companies, phone_numbers and agents say what belongs to whom, and only functions write them.

CREATE FUNCTION tenantcall.audit_unique() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    WITH keys AS (
        SELECT t.name, t.rel, t.company_column, i.indexrelid, ic.relname AS index, k.oid AS conoid, k.conname, k.contype,
               format('%s.%I', ic.relnamespace::regnamespace, ic.relname) AS index_name,
               i.indnkeyatts = 1 AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid)
                                      ~ '^(nextval\(|gen_random_uuid\(|uuidv[47]\(|(\w+\.)?uuid_generate_v)') AS is_surrogate
        FROM tenantcall.audit_tables AS t
        JOIN pg_index AS i ON i.indrelid = t.rel AND (i.indisunique OR i.indisexclusion)
        JOIN pg_class AS ic ON ic.oid = i.indexrelid
        LEFT JOIN pg_constraint AS k ON k.conindid = i.indexrelid AND k.conrelid = t.rel AND k.contype IN ('p', 'u', 'x')
        LEFT JOIN pg_attribute AS a ON a.attrelid = t.rel AND a.attnum = i.indkey[0]
        LEFT JOIN pg_attrdef AS d ON d.adrelid = t.rel AND d.adnum = i.indkey[0]
        WHERE NOT t.is_directory AND t.attnum IS NOT NULL
          AND NOT EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid) -- its parent's business
          AND NOT EXISTS (
              SELECT FROM generate_series(0, i.indnkeyatts - 1) AS p (n)
              WHERE i.indkey[p.n] = t.attnum
                AND (k.conexclop IS NULL
                     OR EXISTS (SELECT FROM pg_operator AS o WHERE o.oid = k.conexclop[p.n + 1] AND o.oprname = '='
                                AND o.oprnamespace = 'pg_catalog'::regnamespace)))
    )
    SELECT CASE WHEN k.is_surrogate THEN 'warning' ELSE 'error' END, 'unique_without_company', k.name,
           format('%s %I does not hold column %I: whoever inserts is told %s.',
                  CASE WHEN k.contype IS NULL THEN 'Unique index' ELSE 'Constraint' END, k.index, k.company_column,
                  CASE WHEN k.is_surrogate THEN 'whether a generated number is taken'
                       ELSE 'whether another company has the value' END),
           CASE WHEN k.contype IS NULL
                THEN format('DROP INDEX %s; %s', k.index_name,
                            regexp_replace(pg_get_indexdef(k.indexrelid), ' USING (\w+) \(',
                                           format(' USING \1 (%I, ', k.company_column)))
                ELSE format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', k.name, k.conname, k.conname,
                            regexp_replace(pg_get_constraintdef(k.conoid), '\(',
                                           CASE k.contype WHEN 'x' THEN format('(%I WITH =, ', k.company_column)
                                                          ELSE format('(%I, ', k.company_column) END)) END
    FROM keys AS k
$$;
COMMENT ON FUNCTION tenantcall.audit_unique() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_unique() FROM PUBLIC;

-- The foreign keys that concern scoped tables, with the company columns of both sides.
CREATE VIEW tenantcall.audit_references AS
    SELECT k.oid, k.conname, k.conrelid, k.confrelid, k.conkey, k.confkey, k.conpfeqop, k.convalidated, k.condeferred,
           k.confdeltype, k.confdelsetcols, k.confupdtype,
           format('%I.%I', cn.nspname, cc.relname) AS child,
           format('%I.%I', pn.nspname, pc.relname) AS parent,
           c.attnum AS child_company, p.attnum AS parent_company, c.company_column,
           c.rel IS NOT NULL AS child_scoped, p.rel IS NOT NULL AS parent_scoped,
           EXISTS (SELECT FROM unnest(k.conkey, k.confkey) AS pair (child, parent)
                   WHERE pair.child = c.attnum AND pair.parent = p.attnum) AS holds_company,
           ARRAY(SELECT a.attname FROM unnest(k.conkey) WITH ORDINALITY AS u (attnum, n)
                 JOIN pg_catalog.pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = u.attnum
                 WHERE a.attnum IS DISTINCT FROM c.attnum ORDER BY u.n) AS other_columns
    FROM pg_catalog.pg_constraint AS k
    JOIN pg_catalog.pg_class AS cc ON cc.oid = k.conrelid
    JOIN pg_catalog.pg_namespace AS cn ON cn.oid = cc.relnamespace
    JOIN pg_catalog.pg_class AS pc ON pc.oid = k.confrelid
    JOIN pg_catalog.pg_namespace AS pn ON pn.oid = pc.relnamespace
    LEFT JOIN tenantcall.audit_tables AS c ON c.rel = k.conrelid
    LEFT JOIN tenantcall.audit_tables AS p ON p.rel = k.confrelid
    WHERE k.contype = 'f' AND k.conparentid = 0 AND (c.rel IS NOT NULL OR p.rel IS NOT NULL);
COMMENT ON VIEW tenantcall.audit_references IS 'internal: foreign keys from and to scoped tables, for check_isolation()';
REVOKE ALL ON tenantcall.audit_references FROM PUBLIC;

CREATE FUNCTION tenantcall.audit_foreign_keys() RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE sql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT 'error', 'foreign_key_without_company', k.child,
           CASE WHEN k.child_scoped
                THEN format('Foreign key %I does not hold the company on both sides: it can refer to another company''s row of %s.',
                            k.conname, k.parent)
                ELSE format('Foreign key %I of a table that is not scoped tells which rows of %s there are.',
                            k.conname, k.parent) END,
           format('ALTER TABLE %s DROP CONSTRAINT %I', k.child, k.conname)
           || CASE WHEN k.child_scoped
                   THEN format('; SELECT tenantcall.scope_foreign_key(%L, %L, %L)', k.child, k.other_columns, k.parent)
                   ELSE '' END
    FROM tenantcall.audit_references AS k
    WHERE k.parent_scoped AND NOT k.holds_company
    UNION ALL
    SELECT 'error', 'foreign_key_action', k.child,
           format('Foreign key %I would set column %I when the row it refers to is changed or deleted.',
                  k.conname, k.company_column),
           format('ALTER TABLE %1$s DROP CONSTRAINT %2$I, ADD CONSTRAINT %2$I %3$s', k.child, k.conname,
                  regexp_replace(pg_get_constraintdef(k.oid), ' ON (DELETE|UPDATE) SET (NULL|DEFAULT)( \([^)]*\))?', '', 'g'))
    FROM tenantcall.audit_references AS k
    WHERE k.child_company = ANY (k.conkey)
      AND (k.confupdtype IN ('n', 'd')
           OR k.confdeltype IN ('n', 'd') AND (k.confdelsetcols IS NULL OR k.child_company = ANY (k.confdelsetcols)))
    UNION ALL
    SELECT 'warning', 'foreign_key_not_validated', k.child,
           format('Foreign key %I was not held against rows that were there before it.', k.conname),
           format(CASE to_jsonb(c) ->> 'conenforced' WHEN 'false' -- from version 18
                       THEN 'ALTER TABLE %s ALTER CONSTRAINT %I ENFORCED'
                       ELSE 'ALTER TABLE %s VALIDATE CONSTRAINT %I -- as superuser: row security hides rows from others' END,
                  k.child, k.conname)
    FROM tenantcall.audit_references AS k JOIN pg_constraint AS c ON c.oid = k.oid
    WHERE NOT k.convalidated
$$;
COMMENT ON FUNCTION tenantcall.audit_foreign_keys() IS 'internal: part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_foreign_keys() FROM PUBLIC;

-- Rows without the row that they refer to.  PostgreSQL takes a foreign key for validated although
-- row security hid rows from the owner who validated it, so the catalogs do not tell.  Rows are
-- looked at if row security does not bind the caller, the operators are PostgreSQL's own, and the
-- table is not large (audit_orphans(NULL) looks at large ones as well); otherwise one row says which
-- were not.
CREATE FUNCTION tenantcall.audit_orphans(max_bytes bigint DEFAULT 67108864) RETURNS SETOF tenantcall.isolation_finding
    LANGUAGE plpgsql STABLE PARALLEL RESTRICTED
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    key record;
    orphan boolean;
    unseen text[] := '{}';
BEGIN
    FOR key IN
        SELECT k.child, k.conname,
               format('%s AS c WHERE %s AND NOT EXISTS (SELECT 1 FROM %s AS p WHERE %s)',
                      k.child, string_agg(format('c.%I IS NOT NULL', c.attname), ' AND ' ORDER BY pair.n),
                      k.parent, string_agg(format('p.%I OPERATOR(pg_catalog.%s) c.%I', p.attname, o.oprname, c.attname),
                                           ' AND ' ORDER BY pair.n)) AS orphans,
               bool_and(o.oprnamespace = 'pg_catalog'::regnamespace) -- no code of others is run
               AND NOT row_security_active(k.conrelid) AND NOT row_security_active(k.confrelid)
               AND (SELECT coalesce(sum(pg_table_size(part.relid)), pg_table_size(k.conrelid))
                           <= coalesce(max_bytes, 9223372036854775807)
                    FROM pg_partition_tree(k.conrelid) AS part WHERE part.isleaf) AS is_seen
        FROM tenantcall.audit_references AS k
        CROSS JOIN unnest(k.conkey, k.confkey, k.conpfeqop)
                   WITH ORDINALITY AS pair (child, parent, operator, n)
        JOIN pg_attribute AS c ON c.attrelid = k.conrelid AND c.attnum = pair.child
        JOIN pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = pair.parent
        JOIN pg_operator AS o ON o.oid = pair.operator
        WHERE k.convalidated AND k.child_scoped AND k.parent_scoped AND NOT k.condeferred
        GROUP BY k.oid, k.child, k.parent, k.conname, k.conrelid, k.confrelid
        ORDER BY k.child, k.conname
    LOOP
        IF key.is_seen IS NOT TRUE THEN
            unseen := unseen || format('%I of %s', key.conname, key.child);
            CONTINUE;
        END IF;
        EXECUTE 'SELECT EXISTS (SELECT 1 FROM ' || key.orphans || ')' INTO orphan;
        IF orphan THEN
            RETURN NEXT ROW('error', 'foreign_key_orphans', key.child,
                            format('Rows refer by %I to rows that do not exist, although it counts as valid.', key.conname),
                            'DELETE FROM ' || key.orphans)
                        ::tenantcall.isolation_finding;
        END IF;
    END LOOP;
    IF unseen <> '{}' THEN
        RETURN NEXT ROW('info', 'foreign_key_rows_unseen', format('%s foreign keys', cardinality(unseen)),
                        format('Their rows were not looked at, because row security binds %I, or the table is large: %s.',
                               current_user, array_to_string(unseen, ', ')),
                        'SELECT * FROM tenantcall.audit_orphans(NULL) -- as superuser')::tenantcall.isolation_finding;
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.audit_orphans(bigint) IS 'rows of scoped tables, in tables up to a size (NULL: any), that refer to nothing; part of check_isolation()';
REVOKE ALL ON FUNCTION tenantcall.audit_orphans(bigint) FROM PUBLIC;
