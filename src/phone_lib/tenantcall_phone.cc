/*
 * tenantcall_phone.cc
 *		Numbering plans: libphonenumber behind the C functions of phone_lib.h.
 *
 * The only C++ of tenantcall.  No exception leaves a function, none of PostgreSQL's errors (which
 * are long jumps) can happen inside of one, and no object outlives it.
 */
#include <cstring>
#include <string>

#include <phonenumbers/logger.h>
#include <phonenumbers/phonenumber.pb.h>
#include <phonenumbers/phonenumberutil.h>

#include "phone_lib.h"

using i18n::phonenumbers::Logger;
using i18n::phonenumbers::PhoneNumber;
using i18n::phonenumbers::PhoneNumberUtil;

namespace
{

/* Swallows what the library would print to the server's standard output. */
class Silence : public Logger
{
  public:
	void
	WriteMessage(const std::string &) override
	{
	}
};

/* The library, made quiet. */
const PhoneNumberUtil &
plans()
{
	static Silence silence;
	const PhoneNumberUtil &util = *PhoneNumberUtil::GetInstance();

	Logger::set_logger_impl(&silence);
	return util;
}

/* Copies a text with its final zero; false, and an empty text, if it does not fit. */
bool
copy(char *to, std::size_t size, const std::string &from)
{
	to[0] = '\0';
	if (from.size() >= size)
		return false;
	std::memcpy(to, from.c_str(), from.size() + 1);
	return true;
}

/* Translates what the parser says. */
TcPhoneLibStatus
parse_status(PhoneNumberUtil::ErrorType error)
{
	switch (error)
	{
		case PhoneNumberUtil::NO_PARSING_ERROR:
			return TC_PHONELIB_OK;
		case PhoneNumberUtil::INVALID_COUNTRY_CODE_ERROR:
			return TC_PHONELIB_UNKNOWN_COUNTRY;
		case PhoneNumberUtil::TOO_SHORT_AFTER_IDD:
		case PhoneNumberUtil::TOO_SHORT_NSN:
			return TC_PHONELIB_TOO_SHORT;
		case PhoneNumberUtil::TOO_LONG_NSN:
			return TC_PHONELIB_TOO_LONG;
		default:
			return TC_PHONELIB_NOT_A_NUMBER;
	}
}

/* Translates what the plan says of a length. */
TcPhoneLibStatus
length_status(PhoneNumberUtil::ValidationResult result)
{
	switch (result)
	{
		case PhoneNumberUtil::IS_POSSIBLE:
			return TC_PHONELIB_OK;
		case PhoneNumberUtil::IS_POSSIBLE_LOCAL_ONLY:
			return TC_PHONELIB_NO_AREA_CODE;
		case PhoneNumberUtil::INVALID_COUNTRY_CODE:
			return TC_PHONELIB_UNKNOWN_COUNTRY;
		case PhoneNumberUtil::TOO_SHORT:
			return TC_PHONELIB_TOO_SHORT;
		case PhoneNumberUtil::TOO_LONG:
			return TC_PHONELIB_TOO_LONG;
		default:
			return TC_PHONELIB_BAD_LENGTH;
	}
}

/* Reads a number, which may throw. */
TcPhoneLibStatus
parse(const char *text, const char *region, char *e164)
{
	const PhoneNumberUtil &util = plans();
	PhoneNumber number;
	std::string out;

	if (region != nullptr && util.GetCountryCodeForRegion(region) == 0)
		return TC_PHONELIB_UNKNOWN_REGION;
	TcPhoneLibStatus status =
		parse_status(util.Parse(text, region != nullptr ? region : "ZZ", &number));
	if (status == TC_PHONELIB_OK)
		status = length_status(util.IsPossibleNumberWithReason(number));
	if (status != TC_PHONELIB_OK)
		return status;
	util.Format(number, PhoneNumberUtil::E164, &out);
	return copy(e164, TC_PHONELIB_TEXT_LEN, out) ? TC_PHONELIB_OK : TC_PHONELIB_TOO_LONG;
}

/* Describes a number, which may throw. */
TcPhoneLibStatus
describe(const char *e164, TcPhoneLibFacts *facts)
{
	const PhoneNumberUtil &util = plans();
	PhoneNumber number;
	std::string region;
	std::string national;
	TcPhoneLibStatus status = parse_status(util.Parse(e164, "ZZ", &number));

	if (status != TC_PHONELIB_OK)
		return status;
	facts->valid = util.IsValidNumber(number);
	util.GetRegionCodeForNumber(number, &region);
	if (region != "ZZ")
		copy(facts->region, sizeof(facts->region), region);
	util.Format(number, PhoneNumberUtil::NATIONAL, &national);
	copy(facts->national, sizeof(facts->national), national);
	return TC_PHONELIB_OK;
}

} // namespace

/* Version of tenantcall that the library was built with. */
const char *
tc_phonelib_version(void)
{
	return TENANTCALL_VERSION;
}

/* Reads a number; region may be NULL. */
TcPhoneLibStatus
tc_phonelib_parse(const char *number, const char *region, char e164[TC_PHONELIB_TEXT_LEN])
{
	try
	{
		return parse(number, region, e164);
	}
	catch (...)
	{
		return TC_PHONELIB_FAILED;
	}
}

/* Says what is known of a number in canonical form. */
TcPhoneLibStatus
tc_phonelib_describe(const char *e164, TcPhoneLibFacts *facts)
{
	std::memset(facts, 0, sizeof(*facts));
	try
	{
		return describe(e164, facts);
	}
	catch (...)
	{
		return TC_PHONELIB_FAILED;
	}
}
