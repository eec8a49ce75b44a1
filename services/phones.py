"""Phone numbers: digits, by the rules of their country."""

from __future__ import annotations

from functools import cache
from typing import Any

from hooks.search_forms import digits

LONGEST, LONGEST_CODE = 20, 3
CODE = r"\+[1-9][0-9]{0,3}\Z"
SEPARATORS = str.maketrans("", "", " .-()[]")


def stripped(phone: str) -> str:
    """The digits of a phone number. Raises ValueError when there is anything but digits and separators."""
    number = phone.translate(SEPARATORS)
    if not number or digits(number) != number:
        raise ValueError("Must be digits; put the country code in phone_country_code")
    return number


def split(phone: str) -> tuple[str | None, str]:
    """Calling code and digits of ``+1 (202) 555-0143``; without a plus there is no code. Whether the number is assigned
    is not asked. Raises ValueError.
    """
    if not phone.startswith("+"):
        return None, stripped(phone)
    number = stripped(phone[1:])
    beginnings = [number[:length] for length in range(1, LONGEST_CODE + 1)]
    known = _library().COUNTRY_CODE_TO_REGION_CODE
    code = next((digits for digits in beginnings if digits[0] != "0" and int(digits) in known), number)
    if code == number:
        raise ValueError("Must begin with a calling code such as +1, and digits must follow")
    return f"+{code}", number[len(code) :]


def problem(phone: str, country: str) -> str | None:
    """What is wrong with the number in this country (ISO 3166 code), or None."""
    library = _library()
    try:
        parsed = library.parse(phone, country)
    except library.NumberParseException:
        return f"Must be a phone number of {country}"
    return None if library.is_possible_number(parsed) else f"Must have the length of a phone number of {country}"


def calling_code(country: str) -> str | None:
    """``+1`` for ``US``; None for a country that does not exist."""
    code = _library().country_code_for_region(country)
    return f"+{code}" if code else None


def mismatch(country: str | None, code: str | None) -> dict[str, str]:
    """What is wrong with a country and a calling code, by field; nothing where one of them is not given."""
    if not country:
        return {}
    expected = calling_code(country)
    if expected is None:
        return {"phone_country_iso": "Must be an ISO 3166 country code such as US"}
    if code and code != expected:
        return {"phone_country_code": f"Must be {expected}, the calling code of {country}"}
    return {}


@cache
def _library() -> Any:
    """Imported when first needed: the numbers of all countries take a while to load."""
    import phonenumbers

    return phonenumbers
