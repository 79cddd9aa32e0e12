"""NetworkPolicies in, nftables out: each rule of the API by its name."""

from __future__ import annotations

import re

import pytest
import yaml

from perdure_devcluster.plan import NodePlan
from perdure_devcluster.policies.ruleset import render
from tests.devcluster.policy_world import Document, objects, pod, policy

N1 = NodePlan(1)
HTTP = {"name": "http", "containerPort": 8080}
WEB = pod("a/web", "198.18.1.2", ports=[HTTP, {"name": "dns", "containerPort": 5353, "protocol": "UDP"}])
DB = pod("a/db", "198.18.1.3")
AWAY = pod("a/away", "198.18.2.2", node="n2", ports=[{"name": "http", "containerPort": 9090}])
CLIENT = pod("b/client", "198.18.2.3", node="n2", labels={"app": "client", "tier": "front"})
EVERYBODY = [WEB, DB, AWAY, CLIENT]
DENY = "podSelector: {}\npolicyTypes: [Ingress, Egress]\n"


def chain(ruleset: str, name: str) -> list[str] | None:
    """The lines of a chain, without comments; None where there is none."""
    found = re.search(rf"  chain {re.escape(name)} {{\n(.*?)  }}\n", ruleset, re.DOTALL)
    if found is None:
        return None
    return [re.sub(r' comment "[^"]*"', "", line).strip() for line in found[1].splitlines()]


def allowed(
    direction: str, *specs: str | Document, pods: list[Document] | None = None, address: str = "198.18.1.2"
) -> list[str]:
    """What a pod's chain lets pass beside the pod itself; the chain ends with a drop."""
    policies = [policy(spec, name=f"a/policy-{number}") for number, spec in enumerate(specs)]
    lines = chain(render(objects(EVERYBODY if pods is None else pods, policies), N1), f"{direction}-{address}")
    assert lines is not None, "the pod is not isolated"
    own = "saddr" if direction == "ingress" else "daddr"
    assert lines[0] == f"ip {own} {address} return", "a pod reaches itself"
    assert lines[-1] == "counter drop"
    return [line.removesuffix("return").strip() for line in lines[1:-1]]


def isolated(*specs: str, pods: list[Document] | None = None, name: str = "a/policy") -> set[str]:
    """The chains that these policies make."""
    ruleset = render(objects(EVERYBODY if pods is None else pods, [policy(spec, name) for spec in specs]), N1)
    return set(re.findall(r"chain ((?:in|e)gress-\S+)", ruleset))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("podSelector: {}", {"ingress-198.18.1.2", "ingress-198.18.1.3"}, id="all of its namespace"),
        pytest.param("podSelector: {matchLabels: {app: db}}", {"ingress-198.18.1.3"}, id="matchLabels"),
        pytest.param(
            "podSelector: {matchExpressions: [{key: app, operator: In, values: [db, web]}]}",
            {"ingress-198.18.1.2", "ingress-198.18.1.3"},
            id="In",
        ),
        pytest.param(
            "podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}",
            {"ingress-198.18.1.2"},
            id="NotIn",
        ),
        pytest.param(
            "podSelector: {matchExpressions: [{key: tier, operator: NotIn, values: [front]}]}",
            {"ingress-198.18.1.2", "ingress-198.18.1.3"},
            id="NotIn holds of those without the label",
        ),
        pytest.param("podSelector: {matchExpressions: [{key: tier, operator: Exists}]}", set(), id="Exists"),
        pytest.param(
            "podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}",
            {"ingress-198.18.1.2", "ingress-198.18.1.3"},
            id="DoesNotExist",
        ),
        pytest.param(
            "podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: Exists}]}",
            set(),
            id="labels and expressions must all hold",
        ),
    ],
)
def test_a_policy_is_about_the_pods_that_its_selector_means(spec: str, expected: set[str]) -> None:
    assert isolated(spec) == expected


def test_a_policy_is_about_no_pod_of_another_namespace() -> None:
    assert isolated("podSelector: {}", name="b/policy") == set()


def test_pods_of_other_nodes_are_left_to_those() -> None:
    ruleset = render(objects(EVERYBODY, [policy(DENY)]), NodePlan(2))

    assert set(re.findall(r"chain (\w+-\S+)", ruleset)) == {"ingress-198.18.2.2", "egress-198.18.2.2"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param("podSelector: {}", {"ingress"}, id="none given: ingress"),
        pytest.param("egress: [{}]", {"ingress", "egress"}, id="none given, and rules of egress: both"),
        pytest.param("egress: []", {"ingress"}, id="none given, and no rule of egress: ingress"),
        pytest.param("policyTypes: [Egress]", {"egress"}, id="Egress alone"),
        pytest.param("policyTypes: [Ingress]\negress: [{}]", {"ingress"}, id="rules of a type that is not given"),
        pytest.param("policyTypes: [Ingress, Egress]", {"ingress", "egress"}, id="both"),
    ],
)
def test_policy_types_say_which_directions_are_isolated(spec: str, expected: set[str]) -> None:
    assert {name.split("-")[0] for name in isolated(spec)} == expected


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_no_rule_lets_nothing_pass(direction: str) -> None:
    assert allowed(direction, DENY) == []


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_an_empty_rule_lets_everything_pass(direction: str) -> None:
    assert allowed(direction, f"policyTypes: [{direction.capitalize()}]\n{direction}: [{{}}]") == [""]


@pytest.mark.parametrize("empty", ["from: []", "ports: []"])
def test_an_empty_list_is_as_good_as_none(empty: str) -> None:
    assert allowed("ingress", f"ingress: [{{{empty}}}]") == [""]


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("podSelector: {matchLabels: {app: db}}", ["{ 198.18.1.3 }"], id="podSelector: the own namespace"),
        pytest.param("podSelector: {matchLabels: {app: client}}", [], id="podSelector: nobody elsewhere"),
        pytest.param(
            "podSelector: {}", ["{ 198.18.1.2, 198.18.1.3, 198.18.2.2 }"], id="empty podSelector: all of the namespace"
        ),
        pytest.param(
            "namespaceSelector: {matchLabels: {team: b}}", ["{ 198.18.2.3 }"], id="namespaceSelector: all pods there"
        ),
        pytest.param(
            "namespaceSelector: {}",
            ["{ 198.18.1.2, 198.18.1.3, 198.18.2.2, 198.18.2.3 }"],
            id="empty namespaceSelector: all pods of the cluster",
        ),
        pytest.param(
            "namespaceSelector: {}\npodSelector: {matchLabels: {tier: front}}", ["{ 198.18.2.3 }"], id="both: both hold"
        ),
        pytest.param(
            "namespaceSelector: {matchLabels: {team: b}}\npodSelector: {matchLabels: {app: web}}", [], id="one"
        ),
        pytest.param("ipBlock: {cidr: 192.0.2.0/24}", ["192.0.2.0/24"], id="ipBlock"),
        pytest.param("ipBlock: {cidr: 192.0.2.7/24}", ["192.0.2.0/24"], id="ipBlock: an address in it"),
        pytest.param(
            "ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.8/29, 192.0.2.8/30, 192.0.2.64/32]}",
            ["192.0.2.0/24 ip DIRECTION != { 192.0.2.8/29, 192.0.2.64/32 }"],
            id="ipBlock with except",
        ),
        pytest.param("ipBlock: {cidr: '2001:db8::/32'}", [], id="ipBlock of IPv6: nobody is there"),
    ],
)
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_rule_is_about_its_peers(peer: str, expected: list[str], direction: str) -> None:
    key, field = ("from", "saddr") if direction == "ingress" else ("to", "daddr")
    spec = {"policyTypes": [direction.capitalize()], direction: [{key: [yaml.safe_load(peer)]}]}

    assert allowed(direction, spec) == [f"ip {field} {each.replace('DIRECTION', field)}" for each in expected]


def test_the_block_of_everybody_needs_no_address() -> None:
    assert allowed("ingress", "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0}}]}]") == [""]
    assert allowed("ingress", "ingress: [{from: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.0.2.0/24]}}]}]") == [
        "ip saddr != { 192.0.2.0/24 }"
    ]


def test_peers_of_one_rule_add_up() -> None:
    peers = "[{ipBlock: {cidr: 192.0.2.0/24}}, {podSelector: {matchLabels: {app: db}}}, {namespaceSelector: {}}]"

    assert allowed("ingress", f"ingress: [{{from: {peers}}}]") == [
        "ip saddr 192.0.2.0/24",
        "ip saddr { 198.18.1.2, 198.18.1.3, 198.18.2.2, 198.18.2.3 }",
    ]


def test_pods_with_their_nodes_network_are_meant_by_no_selector() -> None:
    host = pod("a/host", "198.18.128.11", hostNetwork=True)

    assert isolated(DENY, pods=[host]) == set()
    assert allowed("ingress", "ingress: [{from: [{podSelector: {}}]}]", pods=[WEB, host]) == ["ip saddr { 198.18.1.2 }"]


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_has_ended_is_nobody(phase: str) -> None:
    """Another may have its address by now."""
    ended = pod("a/ended", "198.18.1.9", phase=phase)

    assert isolated(DENY, pods=[ended]) == set()
    assert allowed("ingress", "ingress: [{from: [{podSelector: {}}]}]", pods=[WEB, ended]) == [
        "ip saddr { 198.18.1.2 }"
    ]


@pytest.mark.parametrize(
    ("ports", "expected"),
    [
        pytest.param("{port: 80}", ["tcp dport { 80 }"], id="TCP unless said otherwise"),
        pytest.param("{port: 53, protocol: UDP}", ["udp dport { 53 }"], id="UDP"),
        pytest.param("{port: 7, protocol: SCTP}", ["sctp dport { 7 }"], id="SCTP"),
        pytest.param("{protocol: UDP}", ["meta l4proto udp"], id="all of a protocol"),
        pytest.param("{port: 80, endPort: 90}", ["tcp dport { 80-90 }"], id="endPort"),
        pytest.param(
            "{port: 80, endPort: 90}, {port: 85, endPort: 95}, {port: 96}, {port: 53, protocol: UDP}",
            ["tcp dport { 80-96 }", "udp dport { 53 }"],
            id="ranges that overlap",
        ),
        pytest.param("{port: http}", ["tcp dport { 8080 }"], id="a name"),
        pytest.param("{port: dns, protocol: UDP}", ["udp dport { 5353 }"], id="a name of UDP"),
        pytest.param("{port: dns}", [], id="a name of another protocol"),
        pytest.param("{port: nobodys}", [], id="a name that the pod does not have"),
    ],
)
def test_a_rule_is_about_its_ports(ports: str, expected: list[str]) -> None:
    assert allowed("ingress", f"ingress: [{{ports: [{ports}]}}]") == expected


def test_on_the_way_out_each_destination_has_its_own_number_for_a_name() -> None:
    to = "{podSelector: {}}, {ipBlock: {cidr: 192.0.2.0/24}}"

    assert allowed("egress", f"policyTypes: [Egress]\negress: [{{to: [{to}], ports: [{{port: http}}]}}]") == [
        "ip daddr { 198.18.1.2 } tcp dport 8080",
        "ip daddr { 198.18.2.2 } tcp dport 9090",
    ]


def test_a_name_without_a_destination_is_that_of_any_pod() -> None:
    assert allowed("egress", "policyTypes: [Egress]\negress: [{ports: [{port: http}]}]") == [
        "ip daddr { 198.18.1.2 } tcp dport 8080",
        "ip daddr { 198.18.2.2 } tcp dport 9090",
    ]


def test_a_sidecars_port_has_a_name_too() -> None:
    sidecar = {"name": "sidecar", "restartPolicy": "Always", "ports": [{"name": "metrics", "containerPort": 9000}]}
    web = pod("a/web", "198.18.1.2", initContainers=[sidecar])

    assert allowed("ingress", "ingress: [{ports: [{port: metrics}]}]", pods=[web]) == ["tcp dport { 9000 }"]


def test_peers_and_ports_of_a_rule_must_both_hold() -> None:
    rule = "{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}, {port: 53, protocol: UDP}]}"

    assert allowed("ingress", f"ingress: [{rule}]") == [
        "ip saddr 192.0.2.0/24 tcp dport { 80 }",
        "ip saddr 192.0.2.0/24 udp dport { 53 }",
    ]


def test_rules_and_policies_add_up() -> None:
    first = "ingress: [{ports: [{port: 1}]}, {ports: [{port: 2}]}]"

    assert allowed("ingress", first, DENY, "ingress: [{ports: [{port: 3}]}]") == [
        "tcp dport { 1 }",
        "tcp dport { 2 }",
        "tcp dport { 3 }",
    ]


def test_replies_pass_before_anything_is_asked() -> None:
    ruleset = render(objects(EVERYBODY, [policy(DENY)]), N1)

    assert chain(ruleset, "forward") == [
        "type filter hook forward priority filter; policy accept;",
        "ct state established,related accept",
        "ip saddr vmap @egress",
        "ip daddr vmap @ingress",
    ]


def test_each_address_leads_to_its_chain_and_a_chain_says_whose_it_is() -> None:
    ruleset = render(objects([WEB], [policy(DENY)]), N1)

    assert "elements = { 198.18.1.2 : jump egress-198.18.1.2 }" in ruleset
    assert 'counter drop comment "a/web"' in ruleset


def test_a_name_too_long_for_a_comment_is_cut() -> None:
    """A longer one than 128 characters has nft refuse the whole transaction."""
    long = policy("ingress: [{}]", f"a/{'x' * 253}")

    comments = re.findall(r'comment "([^"]*)"', render(objects([WEB], [long]), N1))
    assert max(map(len, comments)) == 120


def test_where_no_policy_is_about_anybody_nothing_is_in_the_way() -> None:
    assert "forward" not in render(objects(EVERYBODY, []), N1)
    assert "forward" not in render(objects([*EVERYBODY, pod("b/new")], [policy(DENY, "b/policy")]), NodePlan(3))


def test_the_whole_table_is_replaced_in_one_transaction() -> None:
    for policies in ([], [policy(DENY)]):
        lines = render(objects(EVERYBODY, policies), N1).splitlines()
        assert lines[:2] == ["add table ip network-policies", "delete table ip network-policies"]


def holds(*pods: Document, attached: dict[str, str] | None = None, spec: str = DENY) -> list[str]:
    """The lines of the forward chain that hold new pods back."""
    lines = chain(render(objects(list(pods), [policy(spec)], attached=attached), N1), "forward") or []
    return [line.removesuffix(" counter drop") for line in lines if line.endswith("counter drop")]


def test_while_an_isolated_pod_has_no_address_yet_unknown_ones_get_nothing() -> None:
    """All but the node's own, and those of pods that are known, isolated or not."""
    others = [DB, pod("b/there", "198.18.1.7")]

    assert holds(*others, pod("a/new")) == [
        "ip daddr 198.18.1.0/24 ip daddr != { 198.18.1.1, 198.18.1.3, 198.18.1.7 }",
        "ip saddr 198.18.1.0/24 ip saddr != { 198.18.1.1, 198.18.1.3, 198.18.1.7 }",
    ]


def test_only_the_direction_that_a_policy_isolates_is_held() -> None:
    assert holds(pod("a/new"), spec="policyTypes: [Ingress]") == ["ip daddr 198.18.1.0/24 ip daddr != { 198.18.1.1 }"]


@pytest.mark.parametrize(
    "new",
    [pod("b/new"), pod("a/new", node="n2"), pod("a/new", hostNetwork=True), pod("a/new", node="")],
    ids=["no policy is about it", "of another node", "with its node's network", "not scheduled"],
)
def test_nobody_waits_for_a_pod_that_no_policy_isolates_here(new: Document) -> None:
    assert holds(DB, new) == []


def test_a_pod_is_known_as_soon_as_its_node_has_given_it_an_address() -> None:
    new = [policy("ingress: [{from: [{podSelector: {}}]}]")]
    ruleset = render(objects([DB, pod("a/new")], new, attached={"198.18.1.8": "a/new"}), N1)

    assert chain(ruleset, "ingress-198.18.1.8") == [
        "ip saddr 198.18.1.8 return",
        "ip saddr { 198.18.1.3, 198.18.1.8 } return",
        "counter drop",
    ]
    assert holds(DB, pod("a/new"), attached={"198.18.1.8": "a/new"}) == []


def test_what_the_node_says_of_an_address_is_newer_than_what_the_kubelet_has_told() -> None:
    """The old pod's end is not known yet, and its address is a new pod's."""
    attached = {"198.18.1.3": "b/new"}
    ruleset = render(objects([DB, pod("b/new")], [policy(DENY)], attached=attached), N1)

    assert "ingress-198.18.1.3" not in ruleset


def test_an_address_of_a_pod_that_nobody_has_heard_of_gets_nothing_where_policies_are() -> None:
    assert holds(DB, attached={"198.18.1.8": "a/unheard-of", "198.18.1.9": "b/without-policies"}) == [
        "ip daddr { 198.18.1.8 }",
        "ip saddr { 198.18.1.8 }",
    ]
