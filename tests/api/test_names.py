from __future__ import annotations

import re

import pytest

from perdure_api import names

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def test_a_short_name_is_kept_as_people_wrote_it() -> None:
    assert names.job_name("bible", 3) == "bible-3"
    assert names.label_value("bible") == "bible"


@pytest.mark.parametrize("length", [50, 51, 63, 200, 253])
@pytest.mark.parametrize("attempt", [1, 1000])
def test_a_job_name_leaves_room_for_what_kubernetes_appends(length: int, attempt: int) -> None:
    name = names.job_name("a" * length, attempt)

    assert DNS_LABEL.fullmatch(name)
    assert len(f"{name}-0") <= 63
    assert len(f"{name}-0-abcde") <= 63
    assert name.endswith(f"-{attempt}")


def test_dots_are_no_part_of_a_host_name() -> None:
    assert DNS_LABEL.fullmatch(names.job_name("llama.v2.run", 1))


def test_long_names_with_the_same_head_get_different_jobs_and_labels() -> None:
    one, other = "a" * 100 + "1", "a" * 100 + "2"

    assert names.job_name(one, 1) != names.job_name(other, 1)
    assert names.label_value(one) != names.label_value(other)
    assert len(names.label_value(one)) <= 63


def test_dots_and_dashes_do_not_make_two_jobs_one() -> None:
    assert names.job_name("a.b", 1) != names.job_name("a-b", 1)


def test_an_attempt_writes_below_its_run() -> None:
    run = names.run_uri("s3://b/out/", "u-1")

    assert names.attempt_uri(run, 2) == "s3://b/out/runs/u-1/attempts/2"


@pytest.mark.parametrize("name", ["bible", "1b", "a.b", "x" * 253, "a" * 60, "x." * 40 + "y"])
def test_the_pods_of_a_job_find_each_other_by_a_name_that_a_service_may_have(name: str) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", names.service_name(name))


def test_two_jobs_have_two_services() -> None:
    assert names.service_name("bible") == "tj-bible"
    assert names.service_name("a.b") != names.service_name("a-b")
    assert names.service_name("a" * 63) != names.service_name("a" * 64)


@pytest.mark.parametrize("name", ["bible", "llama.v2", "a" * 253])
def test_a_network_policys_name_is_a_dns_label_and_differs_by_uid(name: str) -> None:
    one, other = (names.network_policy_name(name, uid) for uid in ("1", "2"))

    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", one)
    assert one != other
