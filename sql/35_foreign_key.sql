-- 35_foreign_key.sql: foreign keys between scoped tables, which hold the company on both sides
--
-- PostgreSQL checks foreign keys below row security.  One that does not hold the company lets a row
-- refer to another company's, and tells whether that exists.

-- Which columns of the parent are referred to: those of its primary key, or of the same names.
CREATE FUNCTION tenantcall.foreign_key_target(parent regclass, company name, columns name[]) RETURNS name[]
    LANGUAGE plpgsql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    target name[];
BEGIN
    IF cardinality(columns) = 0 THEN -- the company alone
        RETURN columns;
    END IF;
    SELECT array_agg(a.attname ORDER BY k.n) INTO target
    FROM pg_constraint AS p, unnest(p.conkey) WITH ORDINALITY AS k (attnum, n), pg_attribute AS a
    WHERE p.conrelid = parent AND p.contype = 'p' AND a.attrelid = parent AND a.attnum = k.attnum
      AND a.attname <> company;
    IF cardinality(target) = cardinality(columns) THEN
        RETURN target;
    END IF;
    SELECT array_agg(c.name ORDER BY c.n) INTO target
    FROM unnest(columns) WITH ORDINALITY AS c (name, n)
    JOIN pg_attribute AS a ON a.attrelid = parent AND a.attname = c.name AND a.attnum > 0;
    IF target = columns THEN
        RETURN target;
    END IF;
    RAISE undefined_column USING
        MESSAGE = format('which columns of table %s are referred to is not clear', parent),
        DETAIL = 'It has neither a primary key of so many columns besides the company, nor columns of the same names.',
        HINT = 'Name as many columns as identify a row of it within a company.';
END
$$;
COMMENT ON FUNCTION tenantcall.foreign_key_target(regclass, name, name[]) IS 'internal: part of scope_foreign_key()';
REVOKE ALL ON FUNCTION tenantcall.foreign_key_target(regclass, name, name[]) FROM PUBLIC;

-- A unique key over exactly these columns, led by the company; made if there is none.
CREATE FUNCTION tenantcall.ensure_company_key(parent regclass, columns name[]) RETURNS void
    LANGUAGE plpgsql VOLATILE STRICT PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    wanted int2[] := ARRAY(SELECT a.attnum FROM unnest(columns) AS c (name)
                           JOIN pg_attribute AS a ON a.attrelid = parent AND a.attname = c.name ORDER BY a.attnum);
BEGIN
    IF EXISTS (SELECT FROM pg_index AS i
               WHERE i.indrelid = parent AND i.indisunique AND i.indisvalid AND i.indimmediate
                 AND i.indpred IS NULL AND i.indexprs IS NULL
                 AND ARRAY(SELECT i.indkey[n] FROM generate_series(0, i.indnkeyatts - 1) AS n ORDER BY 1) = wanted) THEN
        RETURN;
    END IF;
    EXECUTE format('ALTER TABLE %s ADD UNIQUE (%s)', parent,
                   (SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.n)
                    FROM unnest(columns) WITH ORDINALITY AS c (name, n)));
END
$$;
COMMENT ON FUNCTION tenantcall.ensure_company_key(regclass, name[]) IS 'internal: part of scope_foreign_key()';
REVOKE ALL ON FUNCTION tenantcall.ensure_company_key(regclass, name[]) FROM PUBLIC;

-- The foreign key that pairs exactly these columns, or NULL.
CREATE FUNCTION tenantcall.find_foreign_key(child regclass, columns name[], parent regclass, target name[])
    RETURNS pg_catalog.pg_constraint
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
    SELECT k
    FROM pg_constraint AS k
    WHERE k.conrelid = child AND k.confrelid = parent AND k.contype = 'f'
      AND ARRAY(SELECT (c.attname, p.attname)::text
                FROM unnest(k.conkey, k.confkey) AS pair (child, parent)
                JOIN pg_attribute AS c ON c.attrelid = k.conrelid AND c.attnum = pair.child
                JOIN pg_attribute AS p ON p.attrelid = k.confrelid AND p.attnum = pair.parent ORDER BY 1)
        = ARRAY(SELECT (pair.child, pair.parent)::text FROM unnest(columns, target) AS pair (child, parent) ORDER BY 1)
    ORDER BY k.oid LIMIT 1
$$;
COMMENT ON FUNCTION tenantcall.find_foreign_key(regclass, name[], regclass, name[]) IS 'internal: part of scope_foreign_key()';
REVOKE ALL ON FUNCTION tenantcall.find_foreign_key(regclass, name[], regclass, name[]) FROM PUBLIC;

-- Refuses what cannot be a foreign key between scoped tables.
CREATE FUNCTION tenantcall.require_scoped_reference(child regclass, columns name[], parent regclass, on_delete text) RETURNS void
    LANGUAGE plpgsql STABLE PARALLEL SAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    loose regclass := (SELECT min(r.rel::oid) FROM unnest(ARRAY[child, parent]) AS r (rel)
                       WHERE r.rel NOT IN (SELECT s.rel FROM tenantcall.scope_registry AS s));
    fault name;
BEGIN
    IF loose IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('table %s is not scoped', loose),
            HINT = format('Scope it first: SELECT tenantcall.scope_table(%L);', loose);
    END IF;
    SELECT c.name INTO fault
    FROM unnest(columns) AS c (name)
    WHERE c.name IS NULL OR NOT EXISTS (SELECT FROM pg_attribute AS a
                                        WHERE a.attrelid = child AND a.attname = c.name AND a.attnum > 0);
    IF FOUND THEN
        RAISE undefined_column USING MESSAGE = format('table %s has no column %s', child, coalesce(quote_ident(fault), 'NULL'));
    END IF;
    IF on_delete NOT IN ('no action', 'restrict', 'cascade', 'set null') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('unsupported action on delete: %L', on_delete),
            DETAIL = 'A default may name a row of another company, or none.',
            HINT = 'Use no action, restrict, cascade, or set null, which spares the company.';
    END IF;
    SELECT a.attname INTO fault
    FROM pg_attribute AS a WHERE a.attrelid = child AND a.attname = ANY (columns) AND a.attnotnull
    ORDER BY a.attnum LIMIT 1;
    IF on_delete = 'set null' AND (FOUND OR cardinality(columns) = 0) THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('%s of table %s cannot be set to null on delete',
                             coalesce('column ' || quote_ident(fault), 'the company'), child),
            DETAIL = 'It is NOT NULL.';
    END IF;
END
$$;
COMMENT ON FUNCTION tenantcall.require_scoped_reference(regclass, name[], regclass, text) IS 'internal: part of scope_foreign_key()';
REVOKE ALL ON FUNCTION tenantcall.require_scoped_reference(regclass, name[], regclass, text) FROM PUBLIC;

-- Superusers only.  Row security hides rows from the validation by a table's owner once it is
-- forced, and the foreign key would count as valid with orphans in the table; and without row
-- security our library refuses the table to him.
--
-- Locks: SHARE ROW EXCLUSIVE on both tables for a new key, until the end of the transaction.
-- For a large table under load: once with validate => false, and again, in another transaction,
-- with true, which lets readers and writers of the child pass.  If the parent has no unique key led
-- by the company yet, it is made under ACCESS EXCLUSIVE: CREATE UNIQUE INDEX CONCURRENTLY before.
CREATE FUNCTION tenantcall.scope_foreign_key(child regclass, columns name[], parent regclass,
                                             on_delete text DEFAULT 'no action', validate boolean DEFAULT true) RETURNS name
    LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE
    SET search_path = pg_catalog, tenantcall, pg_temp AS $$
DECLARE
    child_company name;
    parent_company name;
    sources name[];
    target name[];
    action text;
    key pg_constraint;
BEGIN
    IF current_setting('is_superuser') <> 'on' THEN
        RAISE insufficient_privilege USING
            MESSAGE = 'must be superuser to add a foreign key between scoped tables',
            DETAIL = 'Row security would hide rows from its validation.';
    END IF;
    IF num_nulls(child, columns, parent, on_delete, validate) > 0 OR cardinality(columns) = 0 THEN
        RAISE null_value_not_allowed USING MESSAGE = 'child, columns and parent are required';
    END IF;
    SELECT min(r.company_column) FILTER (WHERE r.rel = child), min(r.company_column) FILTER (WHERE r.rel = parent)
    INTO child_company, parent_company FROM tenantcall.scope_registry AS r;
    columns := array_remove(columns, coalesce(child_company, ''));
    PERFORM tenantcall.require_scoped_reference(child, columns, parent, lower(on_delete));
    target := parent_company || tenantcall.foreign_key_target(parent, parent_company, columns);
    sources := child_company || columns;
    action := CASE lower(on_delete) WHEN 'set null'
              THEN format('set null (%s)', (SELECT string_agg(quote_ident(c), ', ') FROM unnest(columns) AS c))
              ELSE lower(on_delete) END;
    key := tenantcall.find_foreign_key(child, sources, parent, target);
    IF key.oid IS NULL THEN
        PERFORM tenantcall.ensure_company_key(parent, target);
        EXECUTE format('ALTER TABLE %s ADD FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE %s%s', child,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(sources) AS c), parent,
                       (SELECT string_agg(quote_ident(c), ', ') FROM unnest(target) AS c), action,
                       (SELECT ' NOT VALID' FROM pg_class AS c WHERE c.oid = child AND c.relkind = 'r'));
        key := tenantcall.find_foreign_key(child, sources, parent, target);
    ELSIF key.confdeltype <> (CASE lower(on_delete) WHEN 'restrict' THEN 'r' WHEN 'cascade' THEN 'c'
                                                    WHEN 'set null' THEN 'n' ELSE 'a' END) THEN
        RAISE duplicate_object USING
            MESSAGE = format('foreign key %I of table %s acts otherwise on delete', key.conname, child),
            HINT = format('Drop it first: ALTER TABLE %s DROP CONSTRAINT %I;', child, key.conname);
    END IF;
    IF validate AND NOT key.convalidated THEN
        EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', child, key.conname);
    END IF;
    RETURN key.conname;
END
$$;
COMMENT ON FUNCTION tenantcall.scope_foreign_key(regclass, name[], regclass, text, boolean) IS
    'adds a foreign key between scoped tables that holds the company on both sides, and returns its name (superuser)';
REVOKE ALL ON FUNCTION tenantcall.scope_foreign_key(regclass, name[], regclass, text, boolean) FROM PUBLIC;
