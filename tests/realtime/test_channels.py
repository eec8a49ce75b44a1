"""Tests of channels: their members and their payloads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apex import Apex, Connection
from apex.realtime.channels import Channels, payloads
from apex.types import UNSET


def test_a_connection_is_itself_alone_and_reads_like_params() -> None:
    one, other = Connection(provider="socketio"), Connection(provider="socketio")
    assert one != other
    assert len({one, other}) == 2
    one.user = {"id": 1}
    assert (one["user"], one.provider, one.nothing) == ({"id": 1}, "socketio", None)


def test_joining_twice_counts_once_and_none_is_ignored() -> None:
    app, one, two = Apex(), Connection(), Connection()
    app.channel("a").join(one, one, None).join(two)
    assert app.channel("a").connections == [one, two]
    assert app.channel("a").length == 2


def test_an_empty_channel_is_gone() -> None:
    app, one = Apex(), Connection()
    assert app.channel("a").length == 0
    assert app.channels == []
    app.channel("a").join(one)
    assert app.channels == ["a"]
    app.channel("a").leave(one, None)
    assert (app.channels, one.channels) == ([], set())


def test_leaving_by_a_rule() -> None:
    app, ann, ben = Apex(), Connection(user=1), Connection(user=2)
    app.channel("a").join(ann, ben).leave(lambda connection: connection.user == 2)
    assert app.channel("a").connections == [ann]


def test_several_channels_are_one() -> None:
    app, ann, ben = Apex(), Connection(), Connection()
    app.channel("a").join(ann)
    app.channel("b").join(ann, ben)
    assert app.channel("a", "b").connections == app.channel(["a", "b"]).connections == [ann, ben]
    app.channel("a", "c").join(ben)
    app.channel("a", "b").leave(ann)
    assert (app.channels, app.channel("a", "b", "c").connections) == (["a", "b", "c"], [ben])


def test_a_channel_needs_a_name() -> None:
    with pytest.raises(ValueError, match="at least one channel name"):
        Apex().channel()
    with pytest.raises(ValueError, match="at least one channel name"):
        Apex().channel([])


def test_filter_and_send_make_new_channels() -> None:
    app, ann, ben = Apex(), Connection(user=1), Connection(user=2)
    everyone = app.channel("a").join(ann, ben)
    assert payloads(everyone.filter(lambda one: one.user == 1).send("hello")) == {ann: "hello"}
    assert payloads(everyone.send("hello").filter(lambda one: one.user == 2)) == {ben: "hello"}
    assert payloads(everyone) == {ann: UNSET, ben: UNSET}


def test_a_connection_in_several_channels_gets_the_payload_of_the_first() -> None:
    app, ann, ben = Apex(), Connection(), Connection()
    first, second = app.channel("a").join(ann).send(1), app.channel("b").join(ann, ben).send(2)
    assert payloads([None, [first, (second,)]]) == {ann: 1, ben: 2}


@pytest.mark.parametrize("published", ["a", 1, {"a": 1}])
def test_a_publisher_gives_channels_or_nothing(published: Any) -> None:
    assert payloads(None) == payloads([]) == {}
    with pytest.raises(TypeError, match="A publisher returned"):
        payloads(published)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(0, 3))))
def test_members_and_memberships_agree(moves: list[tuple[bool, str, int]]) -> None:
    channels, everyone = Channels(), [Connection() for _ in range(4)]
    for joins, name, number in moves:
        channel = channels.named(name)
        (channel.join if joins else channel.leave)(everyone[number])
    members = {name: set(channels.named(name).connections) for name in channels.names}
    assert all(members.values())
    assert members == {
        name: {one for one in everyone if name in one.channels} for name in set().union(*(c.channels for c in everyone))
    }
    for connection in everyone:
        channels.leave_all(connection)
    assert channels.names == []
