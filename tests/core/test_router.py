"""Paths to services: literals first, placeholders next, back where a branch leads nowhere."""

from __future__ import annotations

import pytest

from apex.router import Match, Router


def routed(*paths: str) -> Router[str]:
    router: Router[str] = Router()
    for path in paths:
        router.insert(path, path)
    return router


def found(router: Router[str], path: str) -> Match[str] | None:
    return router.lookup(path.split("/"))


def test_a_path_leads_to_its_target() -> None:
    router = routed("messages", "chat/rooms")
    assert found(router, "messages") == ("messages", {}, None)
    assert found(router, "chat/rooms") == ("chat/rooms", {}, None)


def test_one_more_segment_is_the_id() -> None:
    assert found(routed("messages"), "messages/5") == ("messages", {}, "5")


def test_what_is_not_there_is_none() -> None:
    router = routed("messages", "chat/rooms")
    for path in ("nothing", "chat", "messages/5/6", "messages//5", "Messages", "chat/rooms/1/2"):
        assert found(router, path) is None


def test_an_id_may_hold_anything() -> None:
    for id in ("a b/c", ":x", "", "é", "create"):
        assert routed("messages").lookup(["messages", id]) == ("messages", {}, id)


def test_slashes_around_a_path_do_not_count() -> None:
    assert found(routed("/messages/"), "messages") == ("/messages/", {}, None)


def test_the_root_takes_an_id() -> None:
    router = routed("/", "messages")
    assert router.lookup([]) == ("/", {}, None)
    assert found(router, "5") == ("/", {}, "5")
    assert found(router, "messages") == ("messages", {}, None)


def test_placeholders_take_a_segment_each() -> None:
    router = routed("groups/:groupId/members")
    assert found(router, "groups/7/members") == ("groups/:groupId/members", {"groupId": "7"}, None)
    assert found(router, "groups/7/members/3") == ("groups/:groupId/members", {"groupId": "7"}, "3")


def test_a_placeholder_may_be_called_id() -> None:
    assert found(routed(":app/:id/todo"), "x/5/todo/9") == (":app/:id/todo", {"app": "x", "id": "5"}, "9")


def test_a_literal_is_tried_before_placeholders() -> None:
    router = routed("users/:id/posts", "users/me/posts")
    assert found(router, "users/me/posts") == ("users/me/posts", {}, None)
    assert found(router, "users/5/posts") == ("users/:id/posts", {"id": "5"}, None)


def test_an_id_gives_way_to_a_longer_path() -> None:
    router = routed("users", "users/active")
    assert found(router, "users/active") == ("users/active", {}, None)
    assert found(router, "users/5") == ("users", {}, "5")


def test_a_dead_end_is_walked_back() -> None:
    router = routed("users/me/posts", "users/:id/likes", ":any/:thing/comments")
    assert found(router, "users/me/likes") == ("users/:id/likes", {"id": "me"}, None)
    assert found(router, "users/me/comments") == (":any/:thing/comments", {"any": "users", "thing": "me"}, None)
    assert found(router, "users/me/nothing") is None


def test_placeholders_are_tried_in_their_order() -> None:
    assert found(routed("a/:x", "a/:y"), "a/1") == ("a/:x", {"x": "1"}, None)
    assert found(routed("a/:x/b", "a/:y/c"), "a/1/c") == ("a/:y/c", {"y": "1"}, None)


def test_a_path_is_taken_once() -> None:
    router = routed("messages", "a/:x")
    for path in ("messages", "/messages/", "a/:x"):
        with pytest.raises(ValueError, match="already exists"):
            router.insert(path, "other")


def test_a_removed_path_is_gone_and_free() -> None:
    router = routed("chat/rooms", "chat/rooms/:id/users")
    router.remove("chat/rooms")
    assert found(router, "chat/rooms") is None
    assert found(router, "chat/rooms/1/users") is not None
    router.insert("chat/rooms", "new")
    assert found(router, "chat/rooms") == ("new", {}, None)


def test_removing_a_placeholder_leaves_its_neighbours() -> None:
    router = routed("a/:x", "a/:y/b", "a/c")
    router.remove("a/:x")
    router.remove("a/:z")
    router.remove("nothing/at/all")
    assert found(router, "a/1") is None
    assert found(router, "a/1/b") == ("a/:y/b", {"y": "1"}, None)
    assert found(router, "a/c") == ("a/c", {}, None)


def test_a_thousand_services_are_told_apart() -> None:
    paths = [f"area{number % 10}/service{number}" for number in range(1_000)]
    router = routed(*paths, "area1/:any/deep/down")
    for path in paths:
        assert found(router, f"{path}/7") == (path, {}, "7")
    assert found(router, "area1/service11/deep/down") == ("area1/:any/deep/down", {"any": "service11"}, None)


def test_literals_are_spelled_in_one_way_and_values_in_any() -> None:
    router = routed("my notes/:day")
    for spelled, there in ((["my%20notes", "5"], True), (["my notes", "5"], True), (["m%79%20notes", "5"], False)):
        match = router.lookup(["my notes", "5"], spelled)
        assert (match is not None) is there
    assert router.lookup(["my notes", "a/b", "c"], ["my%20notes", "a%2Fb", "%63"]) == (
        "my notes/:day",
        {"day": "a/b"},
        "c",
    )
