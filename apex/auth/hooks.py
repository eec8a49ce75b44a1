"""The ``authenticate`` hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apex.context import Context
from apex.describe import describe
from apex.errors import NotAuthenticated
from apex.hooks import Hook, belongs

if TYPE_CHECKING:
    from apex.auth.service import AuthenticationService


def authenticate(*strategies: str, entity: bool = True) -> Hook:
    """Return a hook that requires callers from outside to be authenticated by one of the strategies.

    It belongs before a method or among the around hooks. It sets ``params.authentication`` (with the ``payload`` of the
    token) and the entity, ``params.user``. With ``entity=False`` it checks the proof without reading the entity. Then
    the data and the query of a request can be checked before anything is read from the database::

        app.use("messages", Messages(), hooks={"before": {"all": [authenticate("jwt", "api-key")]}})

    Raises ValueError without a strategy. The hook raises NotAuthenticated.
    """
    if not strategies:
        raise ValueError("The authenticate hook needs at least one allowed strategy")

    @belongs("before", "around")
    @describe(strategies=strategies, errors=(401,))
    async def authenticate(context: Context) -> None:
        params = context.params
        service: AuthenticationService | None = context.app.settings.get("defaultAuthentication")
        if service is None:
            raise NotAuthenticated("Could not find a valid authentication service")
        if params.get("authenticated") is True:
            return
        proof = params.get("authentication")
        if proof is None:
            if params.get("provider"):
                raise NotAuthenticated("Not authenticated")
            return
        strategy = service.strategy_of(proof, strategies)
        result = await (strategy.authenticate(proof, params) if entity else strategy.verify(proof))
        for name, value in result.items():
            if name != "accessToken":  # ``authentication`` has the token as well.
                params[name] = value
        params["authenticated"] = True
        params.pop("accessToken", None)

    return authenticate
