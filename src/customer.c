/*
 * customer.c
 *		Who an appointment is for, as book() is told.
 *
 * Strict, since the calendar would refuse a bad one only when the caller may be gone: unknown
 * members are refused (a misspelt one would be lost), an email address must look like one, and
 * numbers become E.164.  No state, no locks.
 */
#include "postgres.h"

#include "pgtime.h"
#include "utils/builtins.h"

#include "compat.h"
#include "customer.h"
#include "phone.h"

#define MAX_LENGTH 200

static const char *const members[] = {"name", "email", "phone", "time_zone", "language"};

/* Raises: the customer is not as it must be. */
static TC_NORETURN void
refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s", message), errhint("%s", hint)));
}

/* Raises on members that nobody would read. */
static void
check_members(Jsonb *json)
{
	JsonbIterator *it;
	JsonbValue value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_OBJECT(json))
		refuse("argument \"customer\" must be a JSON object",
			   "Pass an object with name, and email or phone.");
	it = JsonbIteratorInit(&json->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		bool known = token != WJB_KEY;

		for (size_t i = 0; i < lengthof(members) && !known; i++)
			known = strlen(members[i]) == (size_t) value.val.string.len &&
					memcmp(members[i], value.val.string.val, value.val.string.len) == 0;
		if (!known)
			refuse(psprintf("unknown member \"%s\" of the customer",
							pnstrdup(value.val.string.val, Min(value.val.string.len, 64))),
				   "Members are name, email, phone, time_zone and language.");
	}
}

/* A member as text, without blanks around it; NULL when absent, null or blank. */
static char *
text_member(Jsonb *json, const char *name)
{
	JsonbValue value;
	const char *text;
	int len;

	if (getKeyJsonValueFromContainer(&json->root, name, strlen(name), &value) == NULL ||
		value.type == jbvNull)
		return NULL;
	if (value.type != jbvString)
		refuse(psprintf("member \"%s\" of the customer must be a string", name),
			   "Put it in quotes.");
	text = value.val.string.val;
	len = value.val.string.len;
	while (len > 0 && isspace((unsigned char) text[0]))
	{
		text++;
		len--;
	}
	while (len > 0 && isspace((unsigned char) text[len - 1]))
		len--;
	if (len > MAX_LENGTH)
		refuse(psprintf("member \"%s\" of the customer is too long", name),
			   psprintf("It may have %d bytes.", MAX_LENGTH));
	for (int i = 0; i < len; i++)
		if ((unsigned char) text[i] < ' ' || text[i] == 0x7f)
			refuse(psprintf("member \"%s\" of the customer has control characters", name),
				   "Leave them out.");
	return len == 0 ? NULL : pnstrdup(text, len);
}

/* Does it look like local@domain.tld? */
static bool
looks_like_email(const char *text)
{
	const char *at = strchr(text, '@');
	const char *dot = at == NULL ? NULL : strrchr(at, '.');

	return at != NULL && at > text && strchr(at + 1, '@') == NULL && dot != NULL && dot > at + 1 &&
		   dot[1] != '\0' && strpbrk(text, " ,;<>()[]\"\\") == NULL && strstr(at, "..") == NULL;
}

/* Raises unless it is a language as the calendar names them: de, pt-BR. */
static void
check_language(const char *language)
{
	size_t len = strlen(language);
	bool good = (len == 2 || (len == 5 && language[2] == '-')) &&
				islower((unsigned char) language[0]) && islower((unsigned char) language[1]);

	if (good && len == 5)
		good = isupper((unsigned char) language[3]) && isupper((unsigned char) language[4]);
	if (!good)
		refuse("the customer's language is not valid", "Pass a code such as de or pt-BR.");
}

/* Takes the customer apart. */
void
tc_customer_parse(Jsonb *json, const char *region, const char *time_zone, TcCustomer *customer)
{
	char *phone;

	check_members(json);
	customer->name = text_member(json, "name");
	customer->email = text_member(json, "email");
	customer->time_zone = text_member(json, "time_zone");
	customer->language = text_member(json, "language");
	customer->phone = NULL;
	phone = text_member(json, "phone");
	if (customer->name == NULL)
		refuse("the customer has no name", "Pass it as member name.");
	if (phone != NULL)
		customer->phone = tc_phone_format(tc_phone_require(phone, region));
	if (customer->email == NULL && customer->phone == NULL)
		refuse("the customer has neither email nor phone",
			   "The calendar needs one of them: pass the caller's number as member phone.");
	if (customer->email != NULL && !looks_like_email(customer->email))
		refuse("the customer's email address is not valid",
			   "Ask again, or leave it out and pass the phone number.");
	if (customer->time_zone == NULL)
		customer->time_zone = pstrdup(time_zone);
	else if (strlen(customer->time_zone) > TZ_STRLEN_MAX || pg_tzset(customer->time_zone) == NULL)
		refuse("the customer's time zone is unknown", "Pass a name such as Europe/Berlin.");
	if (customer->language != NULL)
		check_language(customer->language);
}

/* Adds a member, unless it is NULL. */
static void
push(JsonbParseState **state, const char *name, char *text)
{
	JsonbValue value;

	if (text == NULL)
		return;
	value.type = jbvString;
	value.val.string.val = unconstify(char *, name);
	value.val.string.len = (int) strlen(name);
	pushJsonbValue(state, WJB_KEY, &value);
	value.val.string.val = text;
	value.val.string.len = (int) strlen(text);
	pushJsonbValue(state, WJB_VALUE, &value);
}

/* The customer as jsonb. */
Jsonb *
tc_customer_json(const TcCustomer *customer)
{
	JsonbParseState *state = NULL;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	push(&state, "name", customer->name);
	push(&state, "email", customer->email);
	push(&state, "phone", customer->phone);
	push(&state, "time_zone", customer->time_zone);
	push(&state, "language", customer->language);
	return JsonbValueToJsonb(pushJsonbValue(&state, WJB_END_OBJECT, NULL));
}
