/*
 * http_send.c
 *		Between jobs and libcurl's library (http_lib/).
 *
 * The library is loaded when the worker starts.  Texts that hold the credential's key live in the
 * memory of http_credential.c and, while a request is under way, in that of libcurl.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/memutils.h"

#include "http_reasons.h"
#include "http_send.h"
#include "http_settings.h"
#include "http_shmem.h"

#define LIBRARY "$libdir/tenantcall_http"
#define NS_PER_MS INT64CONST(1000000)
#define SHORT_MS 1000 /* a request cut short before says nothing of the peer */

typedef const TcHttpLibApi *(*ApiFunction)(void);

const TcHttpLibApi *tc_http_lib = NULL;
TcHttpLib *tc_http_engine = NULL;

/* A word for each outcome of the library. */
static const char *const reasons[] = {
	[TC_HTTPLIB_ANSWERED] = NULL,
	[TC_HTTPLIB_TIMEOUT] = TC_HTTP_R_TIMEOUT,
	[TC_HTTPLIB_DNS] = TC_HTTP_R_DNS,
	[TC_HTTPLIB_CONNECT] = TC_HTTP_R_CONNECT,
	[TC_HTTPLIB_ADDRESS] = TC_HTTP_R_ADDRESS,
	[TC_HTTPLIB_TLS] = TC_HTTP_R_TLS,
	[TC_HTTPLIB_TOO_LARGE] = TC_HTTP_R_TOO_LARGE,
	[TC_HTTPLIB_BROKEN] = TC_HTTP_R_BROKEN,
	[TC_HTTPLIB_FAILED] = TC_HTTP_R_FAILED,
};

StaticAssertDecl(lengthof(reasons) == TC_HTTPLIB_N_OUTCOME, "a reason for each outcome");

/* tc_http_protected() callback: loads the library. */
static void
load(void *arg)
{
	ApiFunction api = (ApiFunction) load_external_function(LIBRARY, "tc_httplib_api", true, NULL);

	tc_http_lib = api();
	if (strcmp(tc_http_lib->version, TENANTCALL_VERSION) != 0)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("the HTTP library is of version %s, tenantcall of %s",
							   tc_http_lib->version, TENANTCALL_VERSION)));
	tc_http_engine = tc_http_lib->open(tc_http_address_allowed, tc_http_settings.max_requests);
	if (tc_http_engine == NULL)
		ereport(ERROR, (errcode(ERRCODE_SYSTEM_ERROR), errmsg("could not initialize libcurl")));
}

/* Loads the library; without it every job is refused. */
void
tc_http_send_init(void)
{
	if (!tc_http_protected(load, NULL))
		ereport(LOG, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					  errmsg("calendars cannot be reached from this server"),
					  errhint("Build and install tenantcall with libcurl (Debian package "
							  "libcurl4-openssl-dev; at run time libcurl4).")));
}

/* Why nothing may be sent to this peer, or NULL. */
const char *
tc_http_obstacle(const TcHttpCredential *credential)
{
	if (credential->origin.plain &&
		!tc_http_listed(tc_http_settings.local_hosts, &credential->origin))
		return TC_HTTP_R_PLAIN;
	return NULL;
}

/* Hands a job to the library. */
bool
tc_http_send(TcHttpJob *job, const TcHttpCredential *credential)
{
	static StringInfoData url;
	static StringInfoData version;
	const char *headers[6];
	TcHttpLibRequest request = {.method = job->method, .headers = headers, .tag = job};
	int n = 0;

	if (url.data == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&url);
		initStringInfo(&version);
		MemoryContextSwitchTo(caller);
	}
	resetStringInfo(&url);
	appendStringInfo(&url, "%s%s", credential->base_url, job->path);
	resetStringInfo(&version);
	appendStringInfo(&version, "cal-api-version: %s", job->api_version ? job->api_version : "");
	headers[n++] = credential->authorization;
	headers[n++] = "Accept: application/json";
	headers[n++] = "User-Agent: tenantcall/" TENANTCALL_VERSION;
	if (job->body != NULL)
		headers[n++] = "Content-Type: application/json";
	if (job->api_version != NULL)
		headers[n++] = version.data;
	headers[n] = NULL;
	request.url = url.data;
	request.body = job->body;
	request.body_len = job->body != NULL ? job->body_len : 0;
	request.ca_file = tc_http_settings.ca_file;
	request.timeout_ms = Max(1, (job->expires - job->started) / NS_PER_MS);
	request.connect_timeout_ms = Min(request.timeout_ms, tc_http_settings.connect_timeout);
	request.max_body = (size_t) tc_http_settings.max_body * 1024;
	request.trusted = tc_http_listed(tc_http_settings.local_hosts, &credential->origin);
	return tc_http_lib->start(tc_http_engine, &request);
}

/* The next request that has ended. */
bool
tc_http_next_end(TcHttpTransferEnd *end)
{
	TcHttpLibResult lib;

	if (!tc_http_lib->next(tc_http_engine, &lib))
		return false;
	end->job = lib.tag;
	end->limits = lib.headers;
	end->result = (TcHttpResult){.answered = lib.outcome == TC_HTTPLIB_ANSWERED,
								 .sent = lib.sent,
								 .status = lib.status,
								 .body = lib.body,
								 .len = lib.len,
								 .retry_after_ms = -1,
								 .reason = reasons[lib.outcome]};
	if (end->result.answered && lib.status >= 300 && lib.status < 400)
	{
		end->result.answered = false;
		end->result.reason = TC_HTTP_R_REDIRECT;
	}
	if (!end->result.answered)
		end->result.status = 0;
	/* a deadline of the caller's that was very near says nothing of the peer */
	end->counts = lib.outcome != TC_HTTPLIB_TIMEOUT ||
				  end->job->expires - end->job->started >= SHORT_MS * NS_PER_MS;
	return true;
}
