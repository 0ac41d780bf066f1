"""catalog_facts: all that an installation of the extension is, as facts that can be compared.

    facts(conn)     {(kind, object): what it is}
"""

# kind, query of (object, what it is), about the members of the extension: view pg_temp.members
FACTS = {
    "member": "SELECT pg_describe_object(classid, objid, 0), '' FROM members WHERE classid <> 'pg_type'::regclass",
    "comment": "SELECT pg_describe_object(m.classid, m.objid, d.objsubid), d.description FROM members AS m "
               "JOIN pg_description AS d ON d.classoid = m.classid AND d.objoid = m.objid",
    "function": "SELECT f.oid::regprocedure, concat_ws(' ', pg_get_functiondef(f.oid), f.proowner::regrole, "
                "sorted(coalesce(f.proacl, acldefault('f', f.proowner)))) "
                "FROM members AS m JOIN pg_proc AS f ON m.classid = 'pg_proc'::regclass AND m.objid = f.oid "
                "WHERE f.prokind <> 'a'",
    "relation": "SELECT r.oid::regclass, concat_ws(' ', r.relkind, r.relpersistence, r.relowner::regrole, r.reloptions, "
                "r.relrowsecurity, r.relforcerowsecurity, CASE WHEN r.relkind = 'v' THEN pg_get_viewdef(r.oid) END, "
                "sorted(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::\"char\", r.relowner)))) "
                "FROM relations AS r",
    "column": "SELECT concat_ws('.', r.oid::regclass, a.attname), concat_ws(' ', format_type(a.atttypid, a.atttypmod), "
              "a.attcollation::regcollation, a.attnotnull, a.attidentity, a.attgenerated, sorted(a.attacl), "
              "pg_get_expr(d.adbin, d.adrelid)) FROM relations AS r JOIN pg_attribute AS a ON a.attrelid = r.oid "
              "LEFT JOIN pg_attrdef AS d ON d.adrelid = r.oid AND d.adnum = a.attnum "
              "WHERE a.attnum > 0 AND NOT a.attisdropped",
    "constraint": "SELECT concat_ws(' ', r.oid::regclass, k.conname), pg_get_constraintdef(k.oid) || k.convalidated "
                  "FROM relations AS r JOIN pg_constraint AS k ON k.conrelid = r.oid",
    "index": "SELECT i.indexrelid::regclass, pg_get_indexdef(i.indexrelid) || i.indisvalid "
             "FROM relations AS r JOIN pg_index AS i ON i.indrelid = r.oid",
    "trigger": "SELECT concat_ws(' ', r.oid::regclass, t.tgname), concat(pg_get_triggerdef(t.oid), t.tgenabled) "
               "FROM relations AS r JOIN pg_trigger AS t ON t.tgrelid = r.oid WHERE NOT t.tgisinternal",
    "sequence": "SELECT s.seqrelid::regclass, concat_ws(' ', seqtypid::regtype, seqstart, seqincrement, seqmax, seqmin, seqcache, "
                "seqcycle) FROM relations AS r JOIN pg_sequence AS s ON s.seqrelid = r.oid",
    "type": "SELECT t.oid::regtype, concat_ws(' ', t.typtype, t.typlen, t.typbyval, t.typcategory, t.typdelim, t.typinput, "
            "t.typoutput, t.typreceive, t.typsend, t.typalign, t.typstorage, t.typnotnull, t.typbasetype::regtype, t.typdefault, "
            "sorted(coalesce(t.typacl, acldefault('T', t.typowner))), "
            "(SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid)) "
            "FROM members AS m JOIN pg_type AS t ON m.classid = 'pg_type'::regclass AND m.objid = t.oid WHERE t.typtype <> 'c'",
    "operator": "SELECT o.oid::regoperator, concat_ws(' ', oprcode, oprresult::regtype, oprcom::regoperator, oprnegate::regoperator, "
                "oprrest, oprjoin, oprcanmerge, oprcanhash) "
                "FROM members AS m JOIN pg_operator AS o ON m.classid = 'pg_operator'::regclass AND m.objid = o.oid",
    "cast": "SELECT pg_describe_object(m.classid, m.objid, 0), concat_ws(' ', castfunc::regprocedure, castcontext, castmethod) "
            "FROM members AS m JOIN pg_cast AS c ON m.classid = 'pg_cast'::regclass AND m.objid = c.oid",
    "operator class": "SELECT pg_describe_object(m.classid, m.objid, 0), concat_ws(' ', opcintype::regtype, opcdefault, opckeytype::regtype) "
                      "FROM members AS m JOIN pg_opclass AS c ON m.classid = 'pg_opclass'::regclass AND m.objid = c.oid",
    "of an operator family": "SELECT pg_describe_object('pg_amop'::regclass, a.oid, 0), '' FROM members AS m JOIN pg_amop AS a "
                             "ON m.classid = 'pg_opfamily'::regclass AND m.objid = a.amopfamily UNION ALL "
                             "SELECT pg_describe_object('pg_amproc'::regclass, a.oid, 0), '' FROM members AS m JOIN pg_amproc AS a "
                             "ON m.classid = 'pg_opfamily'::regclass AND m.objid = a.amprocfamily",
    "event trigger": "SELECT evtname, concat_ws(' ', evtevent, evtfoid::regprocedure, evtenabled, evttags) FROM members AS m "
                     "JOIN pg_event_trigger AS e ON m.classid = 'pg_event_trigger'::regclass AND m.objid = e.oid",
    "schema": "SELECT nspname, sorted(coalesce(nspacl, acldefault('n', nspowner))) FROM members AS m "
              "JOIN pg_namespace AS n ON m.classid = 'pg_namespace'::regclass AND m.objid = n.oid",
    "dumped": "SELECT c::regclass, w FROM pg_extension, unnest(extconfig, extcondition) AS u (c, w) "
              "WHERE extname = 'tenantcall'",
    "version": "SELECT extname, extversion FROM pg_extension WHERE extname = 'tenantcall'",
}

PREPARE = """
CREATE FUNCTION pg_temp.sorted(aclitem[]) RETURNS text LANGUAGE sql
    AS $$ SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest($1) AS a $$;
CREATE TEMPORARY VIEW members AS
    SELECT d.classid, d.objid FROM pg_depend AS d JOIN pg_extension AS x ON x.oid = d.refobjid
    WHERE d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e' AND x.extname = 'tenantcall';
CREATE TEMPORARY VIEW relations AS
    SELECT c.* FROM pg_class AS c WHERE c.oid IN (SELECT objid FROM members WHERE classid = 'pg_class'::regclass)
    OR c.relkind = 'c' AND c.oid IN (SELECT t.typrelid FROM pg_type AS t JOIN members ON objid = t.oid)
"""


def facts(conn):
    """All of it, of a database; the rows of the extension's tables, too.  Leaves nothing behind."""
    found = {}
    try:
        conn.execute(PREPARE)
        for kind, query in FACTS.items():
            query = query.replace("sorted(", "pg_temp.sorted(")
            for name, what in conn.execute(f"SELECT o::text, w::text FROM ({query}) AS f (o, w)").fetchall():
                found[kind, name] = what
        for table, in conn.execute("SELECT oid::regclass::text FROM relations WHERE relkind = 'r'").fetchall():
            columns = ", ".join(row[0] for row in conn.execute(
                "SELECT quote_ident(attname) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 "
                "AND NOT attisdropped ORDER BY attname", [table]).fetchall())
            for row, in conn.execute(f"SELECT concat_ws('|', {columns}) FROM {table}").fetchall():
                found["row", f"{table}: {row}"] = ""
    finally:
        conn.rollback()
    return found


def difference(one, other):
    """What differs: the keys."""
    return {key for key in one.keys() | other.keys() if one.get(key) != other.get(key)}
