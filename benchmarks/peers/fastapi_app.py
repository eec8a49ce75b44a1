"""The contacts of the CRM on FastAPI with SQLAlchemy's async ORM, set up as in their documentation."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID, uuid4

import jwt
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, EmailStr, Field, PlainSerializer
from sqlalchemy import TIMESTAMP, BigInteger, Select, func, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, deferred, mapped_column

from benchmarks.peers.serving import serve
from hooks.search_forms import normalise

SETTINGS = json.loads(Path(os.environ["SETTINGS"]).read_text())
DRIVER = os.environ.get("DRIVER", "asyncpg")
MOMENT = TIMESTAMP(timezone=True)

engine = create_async_engine(
    os.environ["DATABASE_URL"].replace("postgresql:", f"postgresql+{DRIVER}:"), pool_size=10, max_overflow=0
)
Session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map = {int: BigInteger, datetime: MOMENT, dict[str, Any]: JSONB}


class Membership(Base):
    __tablename__ = "memberships"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int]
    user_id: Mapped[int]


class Contact(Base):
    __tablename__ = "contacts"

    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[UUID] = deferred(mapped_column(default=uuid4))
    organization_id: Mapped[int]
    first_name: Mapped[str]
    last_name: Mapped[str | None]
    email: Mapped[str | None]
    phone: Mapped[str | None]
    phone_country_code: Mapped[str | None]
    phone_country_iso: Mapped[str | None]
    company_id: Mapped[int | None]
    channel_whatsapp_wa_id: Mapped[str | None]
    channel_instagram_user_id: Mapped[str | None]
    system_type: Mapped[str] = mapped_column(default="contact")
    avatar_url: Mapped[str | None]
    custom_fields_by_name: Mapped[dict[str, Any]] = mapped_column(default=dict)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    deleted_at: Mapped[datetime | None]
    created_by_user_id: Mapped[int | None]
    owned_by_user_id: Mapped[int | None]
    total_tasks_run: Mapped[int] = deferred(mapped_column(default=0))
    first_name_form: Mapped[str | None] = deferred(mapped_column())
    last_name_form: Mapped[str | None] = deferred(mapped_column())
    email_form: Mapped[str | None] = deferred(mapped_column())


class Audit(Base):
    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[int]
    created_at: Mapped[datetime]
    user_id: Mapped[int | None]
    api: Mapped[str | None]
    provider: Mapped[str | None]
    request_id: Mapped[str | None]
    service: Mapped[str]
    method: Mapped[str]
    record_id: Mapped[int]
    after: Mapped[dict[str, Any] | None]


def _timestamp(moment: datetime) -> str:
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


Moment = Annotated[datetime, PlainSerializer(_timestamp, return_type=str)]


class ContactOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    organization_id: int
    first_name: str
    last_name: str | None
    email: str | None
    phone: str | None
    phone_country_code: str | None
    phone_country_iso: str | None
    company_id: int | None
    channel_whatsapp_wa_id: str | None
    channel_instagram_user_id: str | None
    system_type: str
    avatar_url: str | None
    custom_fields_by_name: dict[str, Any]
    created_at: Moment
    updated_at: Moment
    deleted_at: Moment | None
    created_by_user_id: int | None
    owned_by_user_id: int | None


class Page(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    total: int
    limit: int
    skip: int
    data: list[ContactOut]


class ContactIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    organization_id: int = Field(ge=1)
    first_name: str = Field(min_length=1, max_length=100)
    last_name: str | None = Field(None, max_length=100)
    email: EmailStr | None = Field(None, max_length=254)
    phone: str | None = Field(None, pattern=r"^[0-9 .()\[\]-]+$", max_length=20)
    phone_country_code: str | None = Field(None, pattern=r"^\+[1-9][0-9]{0,3}$")
    phone_country_iso: str | None = Field(None, min_length=2, max_length=2)
    company_id: int | None = Field(None, ge=1)
    owned_by_user_id: int | None = Field(None, ge=1)
    custom_fields_by_name: dict[str, Any] = Field(default_factory=dict)


memberships: dict[int, list[int]] = defaultdict(list)
"""The memberships in the database at the start."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with Session() as session:
        for member in await session.scalars(select(Membership)):
            memberships[member.user_id].append(member.organization_id)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
bearer = HTTPBearer()


async def current_user(credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> int:
    options = SETTINGS["jwtOptions"]
    try:
        claims = jwt.decode(
            credentials.credentials, SETTINGS["secret"], [options["algorithm"]],
            audience=options["audience"], issuer=options["issuer"],
        )  # fmt: skip
    except jwt.PyJWTError as error:
        raise HTTPException(401, str(error)) from None
    return int(claims["sub"])


async def database() -> AsyncIterator[AsyncSession]:
    async with Session() as session:
        yield session


User = Annotated[int, Depends(current_user)]
Database = Annotated[AsyncSession, Depends(database)]


def within(organizations: list[int]) -> Select[Contact]:
    return select(Contact).where(Contact.organization_id.in_(organizations), Contact.deleted_at.is_(None))


def require_member(user: int, organization: int) -> None:
    if organization not in memberships[user]:
        raise HTTPException(403, f"You are not a member of organization {organization}")


@app.get("/contacts/{id}", response_model=ContactOut)
async def get(id: int, user: User, session: Database) -> Any:
    found = await session.scalar(within(memberships[user]).where(Contact.id == id))
    if found is None:
        raise HTTPException(404, f"No record found for id '{id}'")
    return found


@app.get("/contacts", response_model=Page)
async def find(
    user: User,
    session: Database,
    organization_id: int,
    limit: Annotated[int, Query(alias="$limit", ge=0, le=100)] = 25,
    skip: Annotated[int, Query(alias="$skip", ge=0)] = 0,
    created: Annotated[int, Query(alias="$sort[created_at]")] = 1,
) -> Any:
    require_member(user, organization_id)
    asked = within([organization_id])
    total = await session.scalar(select(func.count()).select_from(asked.subquery()))
    order = Contact.created_at.desc() if created < 0 else Contact.created_at
    rows = await session.scalars(asked.order_by(order).limit(limit).offset(skip))
    return {"total": total, "limit": limit, "skip": skip, "data": rows.all()}


@app.post("/contacts", response_model=ContactOut, status_code=201)
async def create(data: ContactIn, user: User, session: Database) -> Any:
    require_member(user, data.organization_id)
    contact = Contact(**data.model_dump(), **_own(data, user))
    contact.owned_by_user_id = data.owned_by_user_id or user
    session.add(contact)
    await session.flush()
    session.add(_recorded(contact, user))
    await session.commit()
    return contact


def _own(data: ContactIn, user: int) -> dict[str, Any]:
    """Return the fields of a contact that the server sets."""
    now = datetime.now(UTC)
    forms = {f"{name}_form": _plain(getattr(data, name)) for name in ("first_name", "last_name", "email")}
    return {"created_by_user_id": user, "created_at": now, "updated_at": now, **forms}


def _plain(text: str | None) -> str | None:
    return None if text is None else normalise(text)


def _recorded(contact: Contact, user: int) -> Audit:
    return Audit(
        organization_id=contact.organization_id, created_at=contact.created_at, user_id=user, api="achieveapex",
        provider="rest", request_id=str(uuid4()), service="contacts", method="create", record_id=contact.id,
        after=ContactOut.model_validate(contact).model_dump(mode="json"),
    )  # fmt: skip


if __name__ == "__main__":
    serve(app)
