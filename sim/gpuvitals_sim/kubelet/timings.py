"""The intervals and deadlines of the simulated kubelet; the defaults are the real kubelet's."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class KubeletTimings:
    """All values in seconds. Tests shorten them; nothing else about the kubelet changes.

    Source: kubernetes/kubernetes pkg/kubelet/cm/dra/plugin/dra_plugin_manager.go, pkg/kubelet/cm/dra/manager.go,
    pkg/kubelet/cm/dra/healthinfo.go, pkg/kubelet/pluginmanager; observed on 1.37.2.
    """

    registration_tick_seconds: float = 1.0
    """Interval between scans of the registration directory."""
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
    """Delay from the start to the deletion of all slices of the node; registration may come before or after it."""
    pod_sync_min_seconds: float = 60.0
    pod_sync_max_seconds: float = 80.0
    """The periodic pod sync: a failed Prepare is tried again with it, no earlier unless the pod object changes."""
    unprepare_first_retry_seconds: float = 0.9
    unprepare_retry_seconds: float = 12.0
    """Waits after a failed Unprepare: the first, and every further one."""
    container_retry_seconds: float = 10.0
    """Wait before another try to create a container whose CDI devices could not be resolved."""
    termination_seconds: float = 2.0
    """Time that containers need to end after SIGTERM, if the grace period allows it."""
    health_retry_seconds: float = 5.0
    """Wait before an ended health stream is opened again."""
    health_timeout_seconds: float = 30.0
    """A device without a report for this long is Unknown, unless the report carries a timeout of its own."""
    health_coalesce_seconds: float = 1.0
    """Minimum interval between status updates of a pod for changes of health."""
    reconcile_seconds: float = 60.0
    """Interval of the search for claims of deleted pods, which are unprepared."""
    redial_seconds: float = 1.0
    """Wait before a lost plugin connection is dialled again."""
