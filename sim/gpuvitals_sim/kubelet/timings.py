"""How long the simulated kubelet waits for what; the defaults are the real kubelet's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletTimings:
    """All in seconds. Tests and the demo shorten them; nothing else about the kubelet changes.

    Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go, pkg/kubelet/cm/dra/manager.go,
    pkg/kubelet/cm/dra/healthinfo.go, pkg/kubelet/pluginmanager; observed on 1.37.2.
    """

    registration_tick_seconds: float = 1.0
    """How often the registration directory is looked at."""
    get_info_seconds: float = 1.0
    """Deadline of GetInfo."""
    notify_seconds: float = 5.0
    """Deadline of NotifyRegistrationStatus."""
    registration_backoff_seconds: float = 1.0
    """First wait after a refused registration; grows by the same amount each time, up to ten times it."""
    call_seconds: float = 45.0
    """Deadline of NodePrepareResources and NodeUnprepareResources."""
    wiping_delay_seconds: float = 30.0
    """A driver's slices are deleted this long after its last connected plugin is gone."""
    startup_wipe_seconds: float = 0.35
    """When, after the start, all slices of the node are deleted; registration may come before or after it."""
    pod_sync_min_seconds: float = 60.0
    pod_sync_max_seconds: float = 80.0
    """The periodic pod sync: a failed Prepare is tried again with it, no earlier unless the pod object changes."""
    unprepare_first_retry_seconds: float = 0.9
    unprepare_retry_seconds: float = 12.0
    """Waits after a failed Unprepare: the first, and every further one."""
    container_retry_seconds: float = 10.0
    """Wait before another try to create a container whose CDI devices could not be resolved."""
    termination_seconds: float = 2.0
    """From the deletion of a pod to the end of its containers, if its grace period allows; they end by themselves."""
    health_retry_seconds: float = 5.0
    """Wait before an ended health stream is opened again."""
    health_timeout_seconds: float = 30.0
    """A device without a report for this long is Unknown, unless the report carries a timeout of its own."""
    health_coalesce_seconds: float = 1.0
    """At most one status update of a pod a tick for changes of health."""
    reconcile_seconds: float = 60.0
    """How often claims of pods that are gone are looked for and unprepared."""
    redial_seconds: float = 1.0
    """Wait before a lost plugin connection is dialled again."""
