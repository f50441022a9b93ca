"""The APIs and feature gates of each supported Kubernetes version, as data for code, docs and tests.

Source: kubernetes/kubernetes pkg/features/kube_features.go and kubernetes/api
resource/*/zz_generated.prerelease-lifecycle.go; the taint limits: kubernetes/api resource/v1/types.go of each version.
"""

import re
from dataclasses import dataclass

OLDEST = (1, 34)
NEWEST = (1, 37)

_GIT_VERSION = re.compile(r"v?(\d+)\.(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesVersion:
    """One minor version with its default feature gates.

    `resource_apis` and `taint_rule_apis` are the versions of `resource.k8s.io` that are served without configuration.
    `taints_kept`: the server keeps device taints; `taint_effect_none`: if it keeps them, it accepts the effect None.
    `max_taints` is a device's. `claim_status_verbs`: `status.devices` needs the verbs on `resourceclaims/driver`.
    `pod_health_status`: the kubelet shows a device's health in the pod's status.
    """

    minor: tuple[int, int]
    resource_apis: tuple[str, ...]
    taint_rule_apis: tuple[str, ...]
    taints_kept: bool
    taint_effect_none: bool
    max_taints: int
    claim_status_verbs: bool
    pod_health_status: bool

    @property
    def name(self) -> str:
        """`1.37`."""
        return f"{self.minor[0]}.{self.minor[1]}"


VERSIONS: tuple[KubernetesVersion, ...] = (
    KubernetesVersion(
        minor=(1, 34),
        resource_apis=("v1",),
        taint_rule_apis=(),
        taints_kept=False,
        taint_effect_none=False,
        max_taints=4,
        claim_status_verbs=False,
        pod_health_status=False,
    ),
    KubernetesVersion(
        minor=(1, 35),
        resource_apis=("v1",),
        taint_rule_apis=(),
        taints_kept=False,
        taint_effect_none=True,
        max_taints=16,
        claim_status_verbs=False,
        pod_health_status=False,
    ),
    KubernetesVersion(
        minor=(1, 36),
        resource_apis=("v1",),
        taint_rule_apis=(),
        taints_kept=True,
        taint_effect_none=True,
        max_taints=16,
        claim_status_verbs=True,
        pod_health_status=True,
    ),
    KubernetesVersion(
        minor=(1, 37),
        resource_apis=("v1",),
        taint_rule_apis=("v1",),
        taints_kept=True,
        taint_effect_none=True,
        max_taints=16,
        claim_status_verbs=True,
        pod_health_status=True,
    ),
)


def kubernetes_version(git_version: str) -> KubernetesVersion | None:
    """The row of a server version such as `v1.37.2` or `1.36.4-gke.1`; None for an unsupported one."""
    match = _GIT_VERSION.match(git_version)
    if match is None:
        return None
    minor = (int(match[1]), int(match[2]))
    return next((row for row in VERSIONS if row.minor == minor), None)
