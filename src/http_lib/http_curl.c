/*
 * http_curl.c
 *		libcurl's multi handle behind the functions of http_lib.h.
 *
 *		start() --> easy handle --> multi handle --sockets--> epoll fd, which the worker waits for
 *		run()   --> socket events, timer --> finished list --> next()
 *
 * libcurl resolves names in threads of its own.  They inherit the signal mask, so signals are
 * blocked around calls that may start one: PostgreSQL's handlers must run in the main thread.
 * QUICK_EXIT keeps a name server that hangs from stopping everything else.
 *
 * What a single request may do stands in http_curl_request.c.  Memory is malloc's.
 */
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "http_curl.h"

#define HTTP2_SINCE 0x080800 /* libcurl before that stalls now and then */
#define EVENTS_AT_ONCE 64

struct TcHttpLib
{
	CURLM *multi;
	int epoll;
	int64_t timer; /* ms of the monotonic clock; -1: none */
	TcHttpLibFilter filter;
	TcHttpTransfer *first, *last; /* finished */
	TcHttpTransfer *shown;		  /* given out by next() */
	bool http2;
};

/* Milliseconds of the monotonic clock. */
static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Blocks all signals; the mask to restore. */
static sigset_t
block_signals(void)
{
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	return before;
}

/* Restores the mask. */
static void
restore_signals(const sigset_t *before)
{
	pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* CURLMOPT_SOCKETFUNCTION: keeps the epoll set up to date. */
static int
watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *known)
{
	TcHttpLib *lib = arg;
	struct epoll_event event = {.data.fd = fd};
	int change = known != NULL ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (what == CURL_POLL_REMOVE)
	{
		(void) epoll_ctl(lib->epoll, EPOLL_CTL_DEL, fd, NULL);
		return 0;
	}
	event.events = ((what & CURL_POLL_IN) ? EPOLLIN : 0) | ((what & CURL_POLL_OUT) ? EPOLLOUT : 0);
	if (epoll_ctl(lib->epoll, change, fd, &event) != 0)
	{
		/* closed and opened again behind our back, under the same number */
		change = errno == ENOENT ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
		if ((errno != ENOENT && errno != EEXIST) || epoll_ctl(lib->epoll, change, fd, &event) != 0)
			return -1;
	}
	if (known == NULL)
		curl_multi_assign(lib->multi, fd, lib);
	return 0;
}

/* CURLMOPT_TIMERFUNCTION */
static int
set_timer(CURLM *multi, long ms, void *arg)
{
	((TcHttpLib *) arg)->timer = ms < 0 ? -1 : now_ms() + ms;
	return 0;
}

/* Starts a request. */
static bool
start(TcHttpLib *lib, const TcHttpLibRequest *request)
{
	TcHttpTransfer *transfer = tc_http_transfer_make(request, lib->filter, lib->http2);
	sigset_t before;
	bool ok;

	if (transfer == NULL)
		return false;
	before = block_signals();
	ok = curl_multi_add_handle(lib->multi, transfer->easy) == CURLM_OK;
	restore_signals(&before);
	if (!ok)
		tc_http_transfer_free(transfer);
	return ok;
}

/* Puts what has finished on the list. */
static void
collect(TcHttpLib *lib)
{
	CURLMsg *message;
	int left;

	while ((message = curl_multi_info_read(lib->multi, &left)) != NULL)
	{
		TcHttpTransfer *transfer = NULL;
		CURL *easy = message->easy_handle;
		CURLcode code = message->data.result;

		if (message->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(easy, CURLINFO_PRIVATE, &transfer);
		tc_http_transfer_finish(transfer, code);
		curl_multi_remove_handle(lib->multi, easy);
		if (lib->last != NULL)
			lib->last->next = transfer;
		else
			lib->first = transfer;
		lib->last = transfer;
	}
}

/* Goes on with everything that can go on. */
static void
run(TcHttpLib *lib)
{
	struct epoll_event events[EVENTS_AT_ONCE];
	sigset_t before = block_signals();
	int running;
	int n = epoll_wait(lib->epoll, events, EVENTS_AT_ONCE, 0);

	for (int i = 0; i < n; i++)
	{
		int mask = 0;

		if (events[i].events & EPOLLIN)
			mask |= CURL_CSELECT_IN;
		if (events[i].events & EPOLLOUT)
			mask |= CURL_CSELECT_OUT;
		if (events[i].events & (EPOLLERR | EPOLLHUP))
			mask |= CURL_CSELECT_IN | CURL_CSELECT_OUT;
		curl_multi_socket_action(lib->multi, events[i].data.fd, mask, &running);
	}
	if (lib->timer >= 0 && lib->timer <= now_ms())
	{
		lib->timer = -1;
		curl_multi_socket_action(lib->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	}
	restore_signals(&before);
	collect(lib);
}

/* The next result. */
static bool
next(TcHttpLib *lib, TcHttpLibResult *result)
{
	TcHttpTransfer *transfer = lib->first;

	tc_http_transfer_free(lib->shown);
	lib->shown = transfer;
	if (transfer == NULL)
		return false;
	lib->first = transfer->next;
	if (lib->first == NULL)
		lib->last = NULL;
	*result = transfer->result;
	return true;
}

/* The fd that is readable when there is something to do. */
static int
get_fd(const TcHttpLib *lib)
{
	return lib->epoll;
}

/* Milliseconds until run() is due; -1: not before the fd is readable. */
static long
get_timeout(const TcHttpLib *lib)
{
	int64_t left;

	if (lib->timer < 0)
		return -1;
	left = lib->timer - now_ms();
	return left > 0 ? (long) left : 0;
}

/* Ends the library.  Requests under way go with the process, which is about to end. */
static void
close_lib(TcHttpLib *lib)
{
	while (lib->first != NULL || lib->shown != NULL)
	{
		TcHttpLibResult result;

		(void) next(lib, &result);
	}
	close(lib->epoll);
	free(lib);
}

/* Sets libcurl up. */
static TcHttpLib *
open_lib(TcHttpLibFilter filter, long connections)
{
	TcHttpLib *lib = calloc(1, sizeof(TcHttpLib));

	if (lib == NULL)
		return NULL;
	unsetenv("SSLKEYLOGFILE"); /* libcurl would write session keys there */
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK ||
		(lib->multi = curl_multi_init()) == NULL)
	{
		free(lib);
		return NULL;
	}
	lib->filter = filter;
	lib->timer = -1;
	lib->epoll = epoll_create1(EPOLL_CLOEXEC);
	lib->http2 = curl_version_info(CURLVERSION_NOW)->version_num >= HTTP2_SINCE;
	curl_multi_setopt(lib->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
	curl_multi_setopt(lib->multi, CURLMOPT_SOCKETDATA, lib);
	curl_multi_setopt(lib->multi, CURLMOPT_TIMERFUNCTION, set_timer);
	curl_multi_setopt(lib->multi, CURLMOPT_TIMERDATA, lib);
	curl_multi_setopt(lib->multi, CURLMOPT_MAXCONNECTS, connections);
	if (lib->epoll < 0)
	{
		curl_multi_cleanup(lib->multi);
		free(lib);
		return NULL;
	}
	return lib;
}

/* The library's functions. */
const TcHttpLibApi *
tc_httplib_api(void)
{
	static const TcHttpLibApi api = {
		.version = TENANTCALL_VERSION,
		.open = open_lib,
		.fd = get_fd,
		.timeout = get_timeout,
		.start = start,
		.run = run,
		.next = next,
		.close = close_lib,
	};

	return &api;
}
