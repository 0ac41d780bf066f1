-- 70_calls.sql: calls of the voice platform

-- What the reason for the end of a call means for its state.  The 34 reasons are the vendor's
-- (docs.retellai.com, "disconnection reasons"); operators may change or add to them.
CREATE TABLE tenantcall.disconnection_reason_defaults
(
    reason text PRIMARY KEY,
    state text NOT NULL CHECK (state IN ('completed', 'transferred', 'not_connected', 'failed'))
);
COMMENT ON TABLE tenantcall.disconnection_reason_defaults IS 'shipped: state in which a call ends for a disconnection reason';
INSERT INTO tenantcall.disconnection_reason_defaults (reason, state) VALUES
    ('user_hangup', 'completed'), ('agent_hangup', 'completed'), ('voicemail_reached', 'completed'),
    ('ivr_reached', 'completed'), ('inactivity', 'completed'), ('max_duration_reached', 'completed'),
    ('manual_stopped', 'completed'), ('transfer_cancelled', 'completed'),
    ('call_transfer', 'transferred'), ('transfer_bridged', 'transferred'), ('call_take_over', 'transferred'),
    ('dial_busy', 'not_connected'), ('dial_failed', 'not_connected'), ('dial_no_answer', 'not_connected'),
    ('invalid_destination', 'not_connected'), ('telephony_provider_permission_denied', 'not_connected'),
    ('telephony_provider_unavailable', 'not_connected'), ('sip_routing_error', 'not_connected'),
    ('marked_as_spam', 'not_connected'), ('user_declined', 'not_connected'),
    ('concurrency_limit_reached', 'not_connected'), ('no_concurrency_fallback', 'not_connected'),
    ('no_valid_payment', 'not_connected'), ('error_user_not_joined', 'not_connected'),
    ('registered_call_timeout', 'not_connected'),
    ('scam_detected', 'failed'), ('error_llm_websocket_open', 'failed'),
    ('error_llm_websocket_lost_connection', 'failed'), ('error_llm_websocket_runtime', 'failed'),
    ('error_llm_websocket_corrupt_payload', 'failed'), ('error_no_audio_received', 'failed'),
    ('error_asr', 'failed'), ('error_retell', 'failed'), ('error_unknown', 'failed');

CREATE TABLE tenantcall.disconnection_reasons (LIKE tenantcall.disconnection_reason_defaults INCLUDING ALL);
COMMENT ON TABLE tenantcall.disconnection_reasons IS 'state in which a call ends for a disconnection reason: changes to the shipped ones';
GRANT SELECT ON tenantcall.disconnection_reason_defaults, tenantcall.disconnection_reasons TO PUBLIC;
SELECT pg_catalog.pg_extension_config_dump('tenantcall.disconnection_reasons', '');

CREATE FUNCTION tenantcall.answer_inbound_call(body text, signature text, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, answer jsonb)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_answer_inbound_call';
COMMENT ON FUNCTION tenantcall.answer_inbound_call(text, text, timestamptz) IS 'answers the inbound webhook: accepted, rejected, unknown, suspended or limited';
REVOKE ALL ON FUNCTION tenantcall.answer_inbound_call(text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.answer_inbound_call(body bytea, signature text, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, answer jsonb)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_answer_inbound_call';
COMMENT ON FUNCTION tenantcall.answer_inbound_call(bytea, text, timestamptz) IS 'answers the inbound webhook: accepted, rejected, unknown, suspended or limited';
REVOKE ALL ON FUNCTION tenantcall.answer_inbound_call(bytea, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.ingest_retell(body text, signature text, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, reason text, company_id bigint, branch_id bigint, call_id bigint, status text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_ingest_retell';
COMMENT ON FUNCTION tenantcall.ingest_retell(text, text, timestamptz) IS 'takes in an event of a call: applied, duplicate, merged, conflict, quarantined or rejected';
REVOKE ALL ON FUNCTION tenantcall.ingest_retell(text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.ingest_retell(body bytea, signature text, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, reason text, company_id bigint, branch_id bigint, call_id bigint, status text)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_ingest_retell';
COMMENT ON FUNCTION tenantcall.ingest_retell(bytea, text, timestamptz) IS 'takes in an event of a call: applied, duplicate, merged, conflict, quarantined or rejected';
REVOKE ALL ON FUNCTION tenantcall.ingest_retell(bytea, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.accept_function_call(body text, signature text, agent text DEFAULT NULL,
                                                call text DEFAULT NULL, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, reason text, company_id bigint, branch_id bigint, call_id bigint, name text,
                   args jsonb, idempotency_key text, answer jsonb, retry_after interval, headers jsonb)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_accept_function_call';
COMMENT ON FUNCTION tenantcall.accept_function_call(text, text, text, text, timestamptz) IS 'takes in a function call: run, replay, busy, limited, suspended, unknown or rejected';
REVOKE ALL ON FUNCTION tenantcall.accept_function_call(text, text, text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.accept_function_call(body bytea, signature text, agent text DEFAULT NULL,
                                                call text DEFAULT NULL, received_at timestamptz DEFAULT now())
    RETURNS TABLE (outcome text, reason text, company_id bigint, branch_id bigint, call_id bigint, name text,
                   args jsonb, idempotency_key text, answer jsonb, retry_after interval, headers jsonb)
    LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1 AS 'MODULE_PATHNAME', 'tc_accept_function_call';
COMMENT ON FUNCTION tenantcall.accept_function_call(bytea, text, text, text, timestamptz) IS 'takes in a function call: run, replay, busy, limited, suspended, unknown or rejected';
REVOKE ALL ON FUNCTION tenantcall.accept_function_call(bytea, text, text, text, timestamptz) FROM PUBLIC;

CREATE FUNCTION tenantcall.finish_function_call(company_id bigint, idempotency_key text, answer jsonb) RETURNS void
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_finish_function_call';
COMMENT ON FUNCTION tenantcall.finish_function_call(bigint, text, jsonb) IS 'records the answer of a function call, for its retries';
REVOKE ALL ON FUNCTION tenantcall.finish_function_call(bigint, text, jsonb) FROM PUBLIC;

CREATE FUNCTION tenantcall.replay_quarantined(number text DEFAULT NULL, since timestamptz DEFAULT NULL)
    RETURNS TABLE (quarantine_id bigint, outcome text, reason text, company_id bigint, call_id bigint)
    LANGUAGE C VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tc_replay_quarantined';
COMMENT ON FUNCTION tenantcall.replay_quarantined(text, timestamptz) IS 'takes in again what was quarantined, of one number or of all';
REVOKE ALL ON FUNCTION tenantcall.replay_quarantined(text, timestamptz) FROM PUBLIC;
