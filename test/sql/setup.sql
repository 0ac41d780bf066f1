-- setup: runs first; the extension, and the telephony schema where the extension makes one
CREATE EXTENSION tenantcall;
SET client_min_messages = warning;
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_proc
               WHERE pronamespace = 'tenantcall'::regnamespace AND proname = 'create_tables') THEN
        PERFORM tenantcall.create_tables();
    END IF;
END
$$;
SELECT extname, nspname AS schema, extversion = tenantcall.version() AS library_fits
FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace
WHERE extname = 'tenantcall';
