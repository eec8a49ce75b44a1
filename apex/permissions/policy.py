"""The policy of a service: its permissions, checked and sorted by method when the service is registered."""

from __future__ import annotations

from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from inspect import isawaitable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from apex.context import Context
from apex.permissions.roles import ANYONE, SETTING, USER, Roles
from apex.permissions.rules import EVERY, Mine, Rule, shown_where
from apex.query.language import compared, suggestion
from apex.query.scope import AS_GIVEN, FieldTypes, Scope, Typed, scope_predicate
from apex.types import READS, STANDARD

if TYPE_CHECKING:
    from apex.service import BoundService

Kind = Literal["anyone", "user", "role", "relation"]


class Grant(NamedTuple):
    """A rule with the name that it is declared for, and the kind of that name."""

    who: str
    kind: Kind
    rule: Rule

    @property
    def is_plain(self) -> bool:
        """True if the rule allows all records and fields."""
        return self.rule.where is None and self.rule.fields is None


class Part(NamedTuple):
    """A grant that holds for a caller. ``scope`` are the records (None: all), ``fields`` their fields (None: all)."""

    grant: Grant
    scope: Mapping[str, Any] | None
    fields: frozenset[str] | None


class Held(NamedTuple):
    """The login and the declared roles of a caller. ``tenants`` has its roles in tenants, by their ids."""

    is_known: bool
    roles: frozenset[str] = frozenset()
    tenants: Mapping[Any, Any] | None = None


class Decision(NamedTuple):
    """The grants of a method that roles have: those for the call itself, and those for what its answer may show.

    ``is_open`` is True if they allow all records and fields.
    """

    grants: tuple[Grant, ...]
    readers: tuple[Grant, ...]
    is_open: bool


class Policy:
    """The permissions of a registered service.

    Raises TypeError or ValueError for permissions that cannot work: they name an unknown method, role or field.
    """

    def __init__(self, bound: BoundService, permissions: Any) -> None:
        self.path: str = bound._path
        self.service: Any = bound.service
        self.methods: tuple[str, ...] = bound._options.methods
        self.roles: Roles | None = bound._app.get(SETTING)
        self.grants: tuple[Grant, ...] = tuple(self._grants(permissions))
        self.tenant: str | None = self._tenant()
        for grant in self.grants:
            self._check(grant, (*STANDARD, *bound._hookable))
        self._by_method: dict[str, tuple[Grant, ...]] = {}
        self._decisions: dict[tuple[str, frozenset[str], bool], Decision] = {}
        self._sufficient: dict[str, frozenset[str] | None] = {}

    def _grants(self, permissions: Any) -> Iterator[Grant]:
        if not isinstance(permissions, Mapping) or not permissions:
            raise TypeError(
                f"permissions of service '{self.path}' takes a dict such as {{'user': can('find', 'get')}}, "
                f"not {permissions!r}"
            )
        for who, rules in permissions.items():
            kind: Kind = who if who in (ANYONE, USER) else "relation"
            if self.roles is not None and who in self.roles.names:
                kind = "role"
            listed = list(rules) if isinstance(rules, list | tuple) and not isinstance(rules, Rule) else [rules]
            for rule in listed:
                if not isinstance(rule, Rule):
                    raise TypeError(f"permissions of service '{self.path}' takes can(...) for '{who}', not {rule!r}")
                yield Grant(who, kind, rule)

    def _tenant(self) -> str | None:
        """Return the field with the tenant of a record, or None if records have no tenant."""
        if self.roles is None or self.roles.tenant is None:
            return None
        field: str = getattr(getattr(self.service, "table", None), "info", {}).get("tenant") or self.roles.tenant
        return field if self.columns is None or field in self.columns else None

    def _check(self, grant: Grant, methods: Collection[str]) -> None:
        who, kind, rule = grant
        place = f"permissions of service '{self.path}', '{who}':"
        for method in rule.methods:
            if method != EVERY and method not in methods:
                raise ValueError(f"{place} the service has no method '{method}'.{suggestion(method, methods)}")
        if kind == "relation" and not callable(rule.where):
            known = (ANYONE, USER, *(self.roles.names if self.roles else ()))
            raise ValueError(
                f"{place} no such role is declared.{suggestion(who, known)} Declare it with app.configure(roles(...)) "
                "before the service, or say which records of the caller it means, as in where=mine('user_id')"
            )
        if kind == "role" and self.roles is not None and self.roles.tenant is not None and self.tenant is None:
            raise ValueError(
                f"{place} the role is held in a tenant, and records here have no field '{self.roles.tenant}'"
            )
        if rule.where is not None and not self.is_adapter:
            raise TypeError(f"{place} where needs an adapter such as SQLService, which keeps to the scope of a call")
        named = rule.where.fields if isinstance(rule.where, Mine) else ()
        if isinstance(rule.where, Scope):
            named = tuple(compared(scope_predicate(rule.where, AS_GIVEN)))
        for name in named:
            if self.columns is not None and name not in self.columns:
                raise ValueError(f"{place} '{name}' is no field.{suggestion(name, self.columns)}")
        if isinstance(rule.where, Scope):
            scope_predicate(rule.where, self.types)  # Its values must be those of the fields.
        for name in rule.fields or ():
            if self.columns is not None and name not in self.columns and (hint := suggestion(name, self.columns)):
                raise ValueError(f"{place} '{name}' is no field.{hint}")

    # The service, as far as its adapter describes it.

    @property
    def is_adapter(self) -> bool:
        """True if the service finds its records by a parsed query and a scope."""
        return hasattr(self.service, "syntax")

    @property
    def id(self) -> str:
        """The field with the id of a record."""
        return str(getattr(self.service, "id", "id"))

    @property
    def columns(self) -> Mapping[str, Any] | None:
        """The fields of a record, or None if it may have any."""
        columns: Mapping[str, Any] | None = getattr(self.service, "columns", None)
        return columns

    @cached_property
    def types(self) -> Typed:
        """The functions that give the values of a scope their types."""
        return AS_GIVEN if self.columns is None else FieldTypes(self.columns, type(self.service).__name__)

    # The grants of a caller.

    def of_method(self, method: str) -> tuple[Grant, ...]:
        """Return the grants of a method."""
        grants = self._by_method.get(method)
        if grants is None:
            grants = tuple(grant for grant in self.grants if grant.rule.allows(method))
            self._by_method[method] = grants
        return grants

    def shown(self, method: str) -> dict[str, str]:
        """Return a text for people by who may call a method: ``all``, or the records and fields.

        A role that inherits has what the ones before it have.
        """
        allowed: dict[str, list[str]] = {}
        for grant in self.of_method(method):
            implied = {} if self.roles is None or grant.kind != "role" else self.roles.implied
            for who in [name for name in implied if grant.who in implied[name]] or [grant.who]:
                fields = "" if grant.rule.fields is None else f"fields {', '.join(grant.rule.fields)}"
                shown = " ".join(filter(None, (shown_where(grant.rule), fields)))
                allowed.setdefault(who, []).append(shown or "all")
        return {who: "all" if "all" in texts else " or ".join(dict.fromkeys(texts)) for who, texts in allowed.items()}

    def readers_of(self, method: str) -> tuple[Grant, ...]:
        """Return the grants that decide what the answers of a method show: those for ``find`` and ``get``."""
        return self.of_method(method) if method in READS else self.readers

    @cached_property
    def readers(self) -> tuple[Grant, ...]:
        """The grants that let callers read records by ``find`` or ``get``. They decide about events, too."""
        return tuple(grant for grant in self.grants if any(map(grant.rule.allows, READS)))

    @cached_property
    def has_trash(self) -> bool:
        """True if lists of removed records can be asked for."""
        return getattr(self.service, "trash", None) is not None

    @cached_property
    def needs_roles(self) -> bool:
        """True if the roles of a caller matter."""
        return self.tenant is not None or any(grant.kind == "role" for grant in self.grants)

    @cached_property
    def is_partial(self) -> bool:
        """True if some callers may read only some of the records, or some of their fields."""
        return not all(grant.is_plain for grant in self.readers)

    def sufficient(self, method: str) -> frozenset[str] | None:
        """Return the roles that allow a method for all records and fields. None, if other rules could allow it too."""
        try:
            return self._sufficient[method]
        except KeyError:
            enough = self._sufficient[method] = self._computed(method)
            return enough

    def _computed(self, method: str) -> frozenset[str] | None:
        grants, readers = self.of_method(method), self.readers_of(method)
        is_plain = all(grant.is_plain and grant.kind == "role" for grant in grants)
        if self.roles is None or not is_plain or not all(grant.is_plain for grant in readers):
            return None
        allowed = {grant.who for grant in grants}
        return frozenset(name for name, implied in self.roles.implied.items() if implied & allowed)

    def decide(self, method: str, held: Held) -> Decision:
        """Return the grants of a caller for a method. They are computed once for each set of roles."""
        roles = self.roles_of(held)
        key = (method, roles, held.is_known)
        decision = self._decisions.get(key)
        if decision is None:
            grants = tuple(grant for grant in self.of_method(method) if _holds(grant, held.is_known, roles))
            readers = tuple(grant for grant in self.readers_of(method) if _holds(grant, held.is_known, roles))
            is_open = any(grant.is_plain for grant in grants) and any(grant.is_plain for grant in readers)
            decision = self._decisions[key] = Decision(grants, readers, is_open)
        return decision

    def held(self, known: bool, found: Any) -> Held:
        """Return what a caller has, who has logged in or not, and for whom ``of`` of the roles has found these.

        Raises TypeError if ``of`` should have returned a dict of tenants.
        """
        roles = self.roles
        if roles is None or not self.needs_roles:
            return Held(known)
        if roles.tenant is None:
            return Held(known, roles.expanded(found))
        if not isinstance(found, Mapping | None):
            raise TypeError(f"of=... of roles with a tenant returned {found!r}: return a dict from tenants to roles")
        return Held(known, tenants=found or {})

    def roles_of(self, held: Held) -> frozenset[str]:
        """Return the roles of a caller, in whichever tenant it has them."""
        if held.tenants is None or self.roles is None:
            return held.roles
        return frozenset().union(*map(self.roles.expanded, held.tenants.values()))

    def parts(self, context: Context, grants: Iterable[Grant], held: Held) -> list[Part] | Awaitable[list[Part]]:
        """Return the grants that hold for the caller of a context, with their scopes.

        It is an awaitable if the ``where`` of one of them is ``async def``.
        """
        found: list[tuple[Grant, list[Any] | None, Any]] = []
        for grant in grants:
            tenants = self.tenants_of(grant, held)
            # A caller without a tenant finds nothing, unless a rule is about a role, which it does not have.
            if tenants is None or tenants or grant.kind != "role":
                where = grant.rule.where
                found.append((grant, tenants, where(context) if callable(where) else where))
        if any(isawaitable(scope) for _, _, scope in found):
            return self._parts_later(found)
        return list(self._parts(found))

    async def _parts_later(self, found: list[tuple[Grant, list[Any] | None, Any]]) -> list[Part]:
        return list(
            self._parts([(grant, ids, await scope if isawaitable(scope) else scope) for grant, ids, scope in found])
        )

    def _parts(self, found: Iterable[tuple[Grant, list[Any] | None, Any]]) -> Iterator[Part]:
        for grant, tenants, scope in found:
            if callable(grant.rule.where):
                if scope is None or scope is False:
                    continue
                scope = None if scope is True else self._checked(scope, grant)
            if tenants is not None and self.tenant is not None:
                scope = {self.tenant: tenants} if scope is None else {"$and": [{self.tenant: tenants}, scope]}
            fields = grant.rule.fields
            yield Part(grant, scope, None if fields is None else frozenset(fields))

    def tenants_of(self, grant: Grant, held: Held) -> list[Any] | None:
        """Return the tenants in which a grant holds for a caller, or None if it is not about tenants."""
        if held.tenants is None or self.tenant is None or self.roles is None or grant.kind == ANYONE:
            return None
        if grant.kind != "role":
            return sorted(held.tenants)
        return sorted(
            tenant for tenant, role in held.tenants.items() if role and grant.who in self.roles.expanded(role)
        )

    def _checked(self, scope: Any, grant: Grant) -> Mapping[str, Any]:
        if not isinstance(scope, Mapping) or not scope:
            raise TypeError(
                f"{shown_where(grant.rule)} of '{grant.who}' in the permissions of '{self.path}' returned {scope!r}: "
                "return a scope, True for all records, or False for none"
            )
        return scope


def _holds(grant: Grant, is_known: bool, roles: frozenset[str]) -> bool:
    """Return True if a grant could hold for a caller. Its scope decides about the records."""
    return grant.kind == ANYONE or (is_known and (grant.kind != "role" or grant.who in roles))


def permitted_fields(parts: Sequence[Part]) -> frozenset[str] | None:
    """Return the fields that any of the parts allows, or None for all fields."""
    found: frozenset[str] = frozenset()
    for part in parts:
        if part.fields is None:
            return None
        found |= part.fields
    return found


def narrow(context: Context, parts: list[Part], names: Iterable[str]) -> None:
    """Limit a call to the records that the parts allow, and for which one of them allows each of the fields."""
    scope = context.params["scope"]
    for alternatives in conditions(parts, names):
        (first, *others) = alternatives
        if others:
            scope["$and"] = [*scope.get("$and", ()), {"$or": alternatives}]
        elif any(name in scope or name[:1] == "$" for name in first):
            scope["$and"] = [*scope.get("$and", ()), first]
        else:
            scope.update(first)


def conditions(parts: list[Part], names: Iterable[str]) -> list[list[Mapping[str, Any]]]:
    """Return lists of scopes, of each of which one has to hold for a record.

    Each list is that of the parts which allow a field. A list that follows from another one is left out.
    """
    sets = {frozenset(range(len(parts)))}
    for name in names:
        sets.add(frozenset(at for at, part in enumerate(parts) if part.fields is None or name in part.fields))
    found: list[list[Mapping[str, Any]]] = []
    for each in sorted(sets, key=sorted):
        if any(other < each for other in sets):
            continue
        scopes: list[Mapping[str, Any]] = []
        for at in sorted(each):
            scope = parts[at].scope
            if scope is None:
                break
            if scope not in scopes:
                scopes.append(scope)
        else:
            found.append(scopes)
    return found
