"""Phone numbers: digits, by the rules of their country."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from apex.types import Row
from hooks.search_forms import digits

LONGEST, LONGEST_CODE = 20, 3
CODE = r"\+[1-9][0-9]{0,3}\Z"
NO_COUNTRY = "Must be an ISO 3166 country code such as US"
SEPARATORS = str.maketrans("", "", " .-()[]")


def stripped(phone: str) -> str:
    """Return the digits of a phone number. Raises ValueError if it has anything but digits and separators."""
    number = phone.translate(SEPARATORS)
    if not number or digits(number) != number:
        raise ValueError("Must be digits; put the country code in phone_country_code")
    return number


def split(phone: str) -> tuple[str | None, str]:
    """Return calling code and digits: ``("+1", "2025550143")`` for ``+1 (202) 555-0143``.

    Without a plus the code is None. The number need not be assigned. Raises ValueError.
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
    """Return the problem with a number in a country (ISO 3166 code), or None."""
    library = _library()
    try:
        parsed = library.parse(phone, country)
    except library.NumberParseException:
        return f"Must be a phone number of {country}"
    return None if library.is_possible_number(parsed) else f"Must have the length of a phone number of {country}"


@lru_cache(512)
def calling_code(country: str) -> str | None:
    """Return ``+1`` for ``US``, and None for a country that does not exist."""
    code = _library().country_code_for_region(country)
    return f"+{code}" if code else None


def mismatch(country: str | None, code: str | None) -> dict[str, str]:
    """Return the problems with a country and a calling code, by field. Without a country there are none."""
    if not country:
        return {}
    expected = calling_code(country)
    if expected is None:
        return {"phone_country_iso": NO_COUNTRY}
    if code and code != expected:
        return {"phone_country_code": f"Must be {expected}, the calling code of {country}"}
    return {}


def is_within(country: str | None, code: str, number: str) -> bool:
    """Return True if a number can be one of the country. Several countries may share its calling code."""
    if country is None or calling_code(country) != code or problem(number, country):
        return False
    library = _library()
    return library.region_code_for_number(library.parse(number, country)) in (country, None)


def replaced(number: tuple[str | None, str] | None, row: Row) -> Row:
    """Return the values that a number, as calling code and digits, changes in the row of a contact.

    Without a calling code that of the row stays. If the digits are those of the row's calling code and number, nothing
    changes. The country stays as long as it fits.
    """
    if number is None:
        return dict.fromkeys(("phone", "phone_country_code", "phone_country_iso"))
    code, digits = number
    if code is None:
        # A number in JSON has no plus.
        whole = (row.get("phone_country_code") or "").removeprefix("+") + (row.get("phone") or "")
        return {"phone": row["phone"] if digits == whole else digits}
    same = (row.get("phone_country_code"), row.get("phone")) == number
    country = row.get("phone_country_iso") if same or is_within(row.get("phone_country_iso"), code, digits) else None
    return {"phone": digits, "phone_country_code": code, "phone_country_iso": country}


def with_code(row: Row, before: Row) -> Row:
    """Return the values of a contact, or of a patch of the row ``before``, with the calling code of their country."""
    if "phone_country_iso" not in row and "phone_country_code" not in row:
        return row
    country = {**before, **row}.get("phone_country_iso")
    if country is None or row.get("phone_country_code") is not None:
        return row
    return {**row, "phone_country_code": calling_code(country)}


@cache
def _library() -> Any:
    """Return the library. It is imported on first use, as the numbers of all countries take a while to load."""
    import phonenumbers

    return phonenumbers
