"""Two routes want one path: the older has it, and the other says so until it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from thruway_testing.plane.cluster_user import TOO_LARGE, User, wait_answer
from thruway_testing.product.up import wait_until
from thruway_testing.upstreams.openai_upstream import OpenAIUpstream

if TYPE_CHECKING:
    from thruway_testing.plane.kubernetes.control_plane import ControlPlane
    from thruway_testing.product.sidecar import Sidecar


def test_the_older_wins_the_loser_names_it_and_is_promoted_when_it_goes(
    control_plane: ControlPlane, namespace: str, sidecar: Sidecar
) -> None:
    user = User(control_plane.api, namespace)
    with OpenAIUpstream("older") as older, OpenAIUpstream("newer") as newer:
        # Created within one second they would be ordered by name: so the older is the first by it.
        user.apply("a-older", older.url, path="/x")
        user.apply("b-newer", newer.url, path="/x/y")
        sidecar.wait_ready()

        lost = user.wait_condition("b-newer", "Accepted", "False", "Conflicted")
        assert f"{namespace}/a-older" in lost["message"]
        user.wait_condition("b-newer", "Programmed", "False", "NotAccepted")
        user.wait_programmed("a-older")
        url = f"{sidecar.url}/x/y/models"
        wait_answer(url, lambda answer: answer.headers.get("x-upstream") == "older")

        user.delete("a-older")
        wait_answer(url, lambda answer: answer.headers.get("x-upstream") == "newer")
        user.wait_condition("b-newer", "Accepted", "True")
        user.wait_programmed("b-newer")


def test_one_bad_route_disturbs_no_other(
    control_plane: ControlPlane, namespace: str, sidecar: Sidecar
) -> None:
    user = User(control_plane.api, namespace)
    with OpenAIUpstream() as upstream:
        user.apply("good", upstream.url)
        user.apply("bad", upstream.url, request=TOO_LARGE)
        sidecar.wait_ready()

        user.wait_programmed("good")
        user.wait_condition("bad", "Accepted", "False", "RuleTooLarge")
        wait_until(
            lambda: user.get("bad")["status"]["proxies"] == {"connected": 0, "programmed": 0},
            "no proxy counts for what is served nowhere",
        )
