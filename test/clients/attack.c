/* In place of what README.md's example tries: see test_clients.py.  Each argument is one task. */
#include <stdlib.h>

/* Takes in a message, given in hexadecimal digits. */
static void
take_in(PGconn *gateway, const char *hex, const char *signature)
{
	static char body[65536];
	int length = 0;

	for (; hex[0] != '\0'; hex += 2)
	{
		const char digits[] = {hex[0], hex[1], '\0'};

		body[length++] = (char) strtol(digits, NULL, 16);
	}
	printf("%d\n", receive(gateway, body, length, signature));
}

/* Sends statements in one pipeline; prints what became of each. */
static void
pipeline(PGconn *conn, char **statements, int count)
{
	PQenterPipelineMode(conn);
	for (int n = 0; n < count; n++)
		send_query(conn, statements[n], NULL);
	PQpipelineSync(conn);
	for (int n = 0; n < count; n++)
	{
		PGresult *result = PQgetResult(conn);
		const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

		printf("%s\n", state != NULL		  ? state
					   : PQntuples(result) == 1 ? PQgetvalue(result, 0, 0)
												: PQresStatus(PQresultStatus(result)));
		PQclear(result);
		PQgetResult(conn);
	}
	PQclear(PQgetResult(conn));
	PQexitPipelineMode(conn);
	printf("%d\n", PQtransactionStatus(conn));
}

/* receive HEX SIGNATURE | see TOKEN QUERY | pipeline STATEMENT..., after each other */
int
main(int argc, char **argv)
{
	PGconn *gateway = PQconnectdb("user=desk_gateway");
	PGconn *app = PQconnectdb("user=desk_app");

	for (int n = 1; n < argc; n += 3)
	{
		if (strcmp(argv[n], "receive") == 0)
			take_in(gateway, argv[n + 1], argv[n + 2]);
		else if (strcmp(argv[n], "see") == 0)
			printf("%s\n", in_company(app, argv[n + 1], argv[n + 2]) ? "ok" : "failed");
		else
		{
			pipeline(app, argv + n + 1, argc - n - 1);
			break;
		}
	}
	PQfinish(gateway);
	PQfinish(app);
	return 0;
}
