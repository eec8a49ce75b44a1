"""Amounts of money, quantities and percentages: decimal numbers from the request to the database, never floats."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from apex.query.coercion import decimal
from apex.schema import ValidationError, fields
from apex.sql import Fixed

CENT = Decimal("0.01")
LARGEST = Decimal("999999999999.99")

Money = Fixed(2)
Percentage = Fixed(4, trimmed=True)
Quantity = Fixed(4, trimmed=True)


class Amount(fields.Field[Decimal]):
    """A decimal number from 0 to ``max`` with at most ``places`` decimal places, given as a string or a number.

    ::

        price = Amount()
        quantity = Amount(places=4, max=Decimal(1_000_000))
    """

    def __init__(self, *, places: int = 2, max: Decimal = LARGEST, **options: Any) -> None:
        shape = {"type": ["string", "number"], "pattern": rf"^[0-9]{{1,12}}(\.[0-9]{{1,{places}}})?$"}
        super().__init__(metadata={**shape, "minimum": 0, "maximum": float(max)}, **options)
        self.places, self.max = places, max

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Decimal:
        try:
            number = decimal(value)
        except ValueError:
            raise ValidationError('Must be a decimal number such as "25000.00"') from None
        if not 0 <= number <= self.max:
            raise ValidationError(f"Must be between 0 and {self.max}")
        if number != number.quantize(Decimal(1).scaleb(-self.places)):
            raise ValidationError(f"Must have at most {self.places} decimal places")
        return number


def to_cents(amount: Decimal) -> Decimal:
    """Round an amount to cents. Half a cent is rounded up."""
    return amount.quantize(CENT, ROUND_HALF_UP)
