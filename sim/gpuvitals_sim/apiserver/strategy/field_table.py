"""The fields of every built-in kind, as data: their names, their types, and how they nest.

Place in the chain: `known_fields.py` reads it. One word is one field: `name` is a string, `name:T` one value of type
T, `name[T]` a list and `name<T>` a map of such values (of strings if no T is given), `name*` anything. Types in
lower case are scalars: `i` int64, `n` int32, `b` boolean, `t` time, `u` time with microseconds, `q` quantity; the
others are entries of TYPES under their upstream names. Values that neither drivers nor the simulation read are `*`.
`tests/contract/test_fields.py` compares all of it with a real server.
Source: the OpenAPI documents of Kubernetes 1.37.2.
"""

from collections.abc import Mapping
from types import MappingProxyType

TYPES: Mapping[str, str] = MappingProxyType({
    "AllocatedDeviceStatus": """
        conditions[Condition] data* device driver networkData:NetworkDeviceData pool shareID
    """,
    "AllocationResult": "allocationTimestamp:t devices:DeviceAllocationResult nodeSelector*",
    "AttachedVolume": "devicePath name",
    "CELDeviceSelector": "expression",
    "CapacityRequirements": "requests<q>",
    "DeviceToleration": "effect key operator tolerationSeconds:i value",
    "Condition": "lastTransitionTime:t message observedGeneration:i reason status type",
    "Container": """
        args[] command[] env[EnvVar] envFrom* image imagePullPolicy lifecycle* livenessProbe:Probe name
        ports[ContainerPort] readinessProbe:Probe resizePolicy[ContainerResizePolicy]
        resources:ResourceRequirements restartPolicy restartPolicyRules* securityContext:SecurityContext
        startupProbe:Probe stdin:b stdinOnce:b terminationMessagePath terminationMessagePolicy tty:b
        volumeDevices[VolumeDevice] volumeMounts[VolumeMount] workingDir
    """,
    "ContainerImage": "names[] sizeBytes:i",
    "ContainerPort": "containerPort:n hostIP hostPort:n name protocol",
    "ContainerResizePolicy": "resourceName restartPolicy",
    "ContainerState": """
        running:ContainerStateRunning terminated:ContainerStateTerminated waiting:ContainerStateWaiting
    """,
    "ContainerStateRunning": "startedAt:t",
    "ContainerStateTerminated": "containerID exitCode:n finishedAt:t message reason signal:n startedAt:t",
    "ContainerStateWaiting": "message reason",
    "ContainerStatus": """
        allocatedResources<q> allocatedResourcesStatus[ResourceStatus] containerID image imageID
        lastState:ContainerState name ready:b resources:ResourceRequirements restartCount:n started:b
        state:ContainerState stopSignal user* volumeMounts*
    """,
    "Counter": "value:q",
    "CounterSet": "counters<Counter> name",
    "SelectableField": "jsonPath",
    "CustomResourceColumnDefinition": "description format jsonPath name priority:n type",
    "CustomResourceConversion": "strategy webhook*",
    "CustomResourceDefinitionCondition": """
        lastTransitionTime:t message observedGeneration:i reason status type
    """,
    "CustomResourceDefinitionNames": "categories[] kind listKind plural shortNames[] singular",
    "CustomResourceDefinitionSpec": """
        conversion:CustomResourceConversion group names:CustomResourceDefinitionNames preserveUnknownFields:b
        scope versions[CustomResourceDefinitionVersion]
    """,
    "CustomResourceDefinitionStatus": """
        acceptedNames:CustomResourceDefinitionNames conditions[CustomResourceDefinitionCondition]
        observedGeneration:i storedVersions[]
    """,
    "CustomResourceDefinitionVersion": """
        additionalPrinterColumns[CustomResourceColumnDefinition] deprecated:b deprecationWarning name
        schema:CustomResourceValidation selectableFields[SelectableField] served:b storage:b
        subresources:CustomResourceSubresources
    """,
    "CustomResourceSubresourceScale": "labelSelectorPath specReplicasPath statusReplicasPath",
    "CustomResourceSubresources": "scale:CustomResourceSubresourceScale status*",
    "CustomResourceValidation": "openAPIV3Schema*",
    "DaemonEndpoint": "Port:n",
    "DaemonSetCondition": "lastTransitionTime:t message reason status type",
    "DaemonSetSpec": """
        minReadySeconds:n revisionHistoryLimit:n selector:LabelSelector template:PodTemplateSpec
        updateStrategy:DaemonSetUpdateStrategy
    """,
    "DaemonSetStatus": """
        collisionCount:n conditions[DaemonSetCondition] currentNumberScheduled:n desiredNumberScheduled:n
        numberAvailable:n numberMisscheduled:n numberReady:n numberUnavailable:n observedGeneration:i
        updatedNumberScheduled:n
    """,
    "DaemonSetUpdateStrategy": "rollingUpdate:RollingUpdateDaemonSet type",
    "Device": """
        allNodes:b allowMultipleAllocations:b attributes<DeviceAttribute> bindingConditions[]
        bindingFailureConditions[] bindsToNode:b capacity<DeviceCapacity>
        consumesCounters[DeviceCounterConsumption] name nodeAllocatableResources* nodeName nodeSelector*
        taints[DeviceTaint]
    """,
    "DeviceAllocationConfiguration": "opaque:OpaqueDeviceConfiguration requests[] source",
    "DeviceAllocationResult": "config[DeviceAllocationConfiguration] results[DeviceRequestAllocationResult]",
    "DeviceAttribute": "bool:b bools* int:i ints* string strings[] version versions[]",
    "DeviceCapacity": "requestPolicy* value:q",
    "DeviceClaim": "config[DeviceClaimConfiguration] constraints[DeviceConstraint] requests[DeviceRequest]",
    "DeviceClaimConfiguration": "opaque:OpaqueDeviceConfiguration requests[]",
    "DeviceClassConfiguration": "opaque:OpaqueDeviceConfiguration",
    "DeviceClassSpec": "config[DeviceClassConfiguration] extendedResourceName selectors[DeviceSelector]",
    "DeviceConstraint": "distinctAttribute matchAttribute requests[]",
    "DeviceCounterConsumption": "compatibilityGroups[] counterSet counters<Counter>",
    "DeviceDerivedAttribute": "expression name",
    "DeviceRequest": "exactly:ExactDeviceRequest firstAvailable[DeviceSubRequest] name",
    "DeviceRequestAllocationResult": """
        adminAccess:b bindingConditions[] bindingFailureConditions[] consumedCapacity<q> device driver pool
        request shareID skipNodeOperations[] tolerations[DeviceToleration]
    """,
    "DeviceSelector": "cel:CELDeviceSelector",
    "DeviceSubRequest": """
        allocationMode capacity:CapacityRequirements count:i derivedAttributes[DeviceDerivedAttribute]
        deviceClassName name selectors[DeviceSelector] tolerations[DeviceToleration]
    """,
    "DeviceTaint": "effect key timeAdded:t value",
    "DeviceTaintRuleSpec": "deviceSelector:DeviceTaintSelector taint:DeviceTaint",
    "DeviceTaintRuleStatus": "conditions[Condition]",
    "DeviceTaintSelector": "device driver pool",
    "EnvVar": "name value valueFrom*",
    "EventSeries": "count:n lastObservedTime:u",
    "EventSource": "component host",
    "ExactDeviceRequest": """
        adminAccess:b allocationMode capacity:CapacityRequirements count:i
        derivedAttributes[DeviceDerivedAttribute] deviceClassName selectors[DeviceSelector]
        tolerations[DeviceToleration]
    """,
    "HostAlias": "hostnames[] ip",
    "HostIP": "ip",
    "JobCondition": "lastProbeTime:t lastTransitionTime:t message reason status type",
    "JobSpec": """
        activeDeadlineSeconds:i backoffLimit:n backoffLimitPerIndex:n completionMode completions:n managedBy
        manualSelector:b maxFailedIndexes:n parallelism:n podFailurePolicy* podReplacementPolicy scheduling*
        selector:LabelSelector successPolicy* suspend:b template:PodTemplateSpec ttlSecondsAfterFinished:n
    """,
    "JobStatus": """
        active:n completedIndexes completionTime:t conditions[JobCondition] failed:n failedIndexes ready:n
        startTime:t succeeded:n terminating:n uncountedTerminatedPods:UncountedTerminatedPods
    """,
    "LabelSelector": "matchExpressions[LabelSelectorRequirement] matchLabels<>",
    "LabelSelectorRequirement": "key operator values[]",
    "LeaseSpec": """
        acquireTime:u holderIdentity leaseDurationSeconds:n leaseTransitions:n preferredHolder renewTime:u
        strategy
    """,
    "LocalObjectReference": "name",
    "ManagedFieldsEntry": "apiVersion fieldsType fieldsV1* manager operation subresource time:t",
    "NamespaceCondition": "lastTransitionTime:t message reason status type",
    "NamespaceSpec": "finalizers[]",
    "NamespaceStatus": "conditions[NamespaceCondition] phase",
    "NetworkDeviceData": "hardwareAddress interfaceName ips[]",
    "NodeAddress": "address type",
    "NodeCondition": "lastHeartbeatTime:t lastTransitionTime:t message reason status type",
    "NodeDaemonEndpoints": "kubeletEndpoint:DaemonEndpoint",
    "NodeFeatures": "supplementalGroupsPolicy:b",
    "NodePodPreemptionPolicy": "disableResizePreemption[]",
    "NodeSpec": """
        configSource* externalID podCIDR podCIDRs[] podPreemptionPolicy:NodePodPreemptionPolicy providerID
        taints[Taint] unschedulable:b
    """,
    "NodeStatus": """
        addresses[NodeAddress] allocatable<q> capacity<q> conditions[NodeCondition] config*
        daemonEndpoints:NodeDaemonEndpoints declaredFeatures[] features:NodeFeatures images[ContainerImage]
        nodeInfo:NodeSystemInfo phase runtimeHandlers* volumesAttached[AttachedVolume] volumesInUse[]
    """,
    "NodeSwapStatus": "capacity:i",
    "NodeSystemInfo": """
        architecture bootID containerRuntimeVersion kernelVersion kubeProxyVersion kubeletVersion machineID
        operatingSystem osImage runningInUserNamespace:b swap:NodeSwapStatus systemUUID
    """,
    "ObjectMeta": """
        annotations<> creationTimestamp:t deletionGracePeriodSeconds:i deletionTimestamp:t finalizers[]
        generateName generation:i labels<> managedFields[ManagedFieldsEntry] name namespace
        ownerReferences[OwnerReference] resourceVersion selfLink uid
    """,
    "ObjectReference": "apiVersion fieldPath kind name namespace resourceVersion uid",
    "OpaqueDeviceConfiguration": "driver parameters*",
    "OwnerReference": "apiVersion blockOwnerDeletion:b controller:b kind name uid",
    "PodCondition": "lastProbeTime:t lastTransitionTime:t message observedGeneration:i reason status type",
    "PodDisruptionBudgetSpec": """
        maxUnavailable* minAvailable* selector:LabelSelector unhealthyPodEvictionPolicy
    """,
    "PodDisruptionBudgetStatus": """
        conditions[Condition] currentHealthy:n desiredHealthy:n disruptedPods* disruptionsAllowed:n
        expectedPods:n observedGeneration:i
    """,
    "PodIP": "ip",
    "PodOS": "name",
    "PodReadinessGate": "conditionType",
    "PodResourceClaim": "name resourceClaimName resourceClaimTemplateName",
    "PodResourceClaimStatus": "name resourceClaimName",
    "PodSchedulingGate": "name",
    "PodSecurityContext": """
        appArmorProfile* fsGroup:i fsGroupChangePolicy runAsGroup:i runAsNonRoot:b runAsUser:i
        seLinuxChangePolicy seLinuxOptions* seccompProfile* supplementalGroups* supplementalGroupsPolicy
        sysctls* windowsOptions:WindowsSecurityContextOptions
    """,
    "PodSpec": """
        activeDeadlineSeconds:i affinity* automountServiceAccountToken:b containers[Container] dnsConfig*
        dnsPolicy enableServiceLinks:b ephemeralContainers* evictionResponders* hostAliases[HostAlias]
        hostIPC:b hostNetwork:b hostPID:b hostUsers:b hostname hostnameOverride
        imagePullSecrets[LocalObjectReference] initContainers[Container] nodeName nodeSelector<> os:PodOS
        overhead<q> preemptionPolicy priority:n priorityClassName readinessGates[PodReadinessGate]
        resourceClaims[PodResourceClaim] resources:ResourceRequirements restartPolicy runtimeClassName
        schedulerName schedulingGates[PodSchedulingGate] schedulingGroup* securityContext:PodSecurityContext
        serviceAccount serviceAccountName setHostnameAsFQDN:b shareProcessNamespace:b subdomain
        terminationGracePeriodSeconds:i tolerations[Toleration] topologySpreadConstraints* volumes[Volume]
    """,
    "PodStatus": """
        allocatedResources<q> conditions[PodCondition] containerStatuses[ContainerStatus]
        ephemeralContainerStatuses[ContainerStatus] extendedResourceClaimStatus* hostIP hostIPs[HostIP]
        initContainerStatuses[ContainerStatus] message nodeAllocatableResourceClaimStatuses* nominatedNodeName
        observedGeneration:i phase podIP podIPs[PodIP] qosClass reason resize
        resourceClaimStatuses[PodResourceClaimStatus] resources:ResourceRequirements startTime:t volumeHealth*
    """,
    "PodTemplateSpec": "metadata:ObjectMeta spec:PodSpec",
    "Probe": """
        exec* failureThreshold:n grpc* httpGet* initialDelaySeconds:n periodSeconds:n successThreshold:n
        tcpSocket* terminationGracePeriodSeconds:i timeoutSeconds:n
    """,
    "ResourceClaim": "name request",
    "ResourceClaimConsumerReference": "apiGroup name resource uid",
    "ResourceClaimSpec": "devices:DeviceClaim",
    "ResourceClaimStatus": """
        allocation:AllocationResult devices[AllocatedDeviceStatus] reservedFor[ResourceClaimConsumerReference]
    """,
    "ResourceClaimTemplateSpec": "metadata:ObjectMeta spec:ResourceClaimSpec",
    "ResourceHealth": "health message resourceID",
    "ResourcePool": "generation:i name resourceSliceCount:i",
    "ResourceRequirements": "claims[ResourceClaim] limits<q> requests<q>",
    "ResourceSliceSpec": """
        allNodes:b devices[Device] driver nodeName nodeSelector* partitionTypeAttribute
        perDeviceNodeSelection:b pool:ResourcePool sharedCounters[CounterSet] skipNodeOperations[]
    """,
    "ReplicaSetCondition": "lastTransitionTime:t message reason status type",
    "ReplicaSetSpec": "minReadySeconds:n replicas:n selector:LabelSelector template:PodTemplateSpec",
    "ReplicaSetStatus": """
        availableReplicas:n conditions[ReplicaSetCondition] fullyLabeledReplicas:n observedGeneration:i readyReplicas:n
        replicas:n terminatingReplicas:n
    """,
    "ResourceStatus": "name resources[ResourceHealth]",
    "RollingUpdateDaemonSet": "maxSurge* maxUnavailable*",
    "SecurityContext": """
        allowPrivilegeEscalation:b appArmorProfile* capabilities* privileged:b procMount
        readOnlyRootFilesystem:b runAsGroup:i runAsNonRoot:b runAsUser:i seLinuxOptions* seccompProfile*
        windowsOptions:WindowsSecurityContextOptions
    """,
    "Taint": "effect key timeAdded:t value",
    "Toleration": "effect key operator tolerationSeconds:i value",
    "UncountedTerminatedPods": "failed[] succeeded[]",
    "Volume": """
        awsElasticBlockStore* azureDisk* azureFile* cephfs* cinder* configMap* csi* downwardAPI* emptyDir*
        ephemeral* fc* flexVolume* flocker* gcePersistentDisk* gitRepo* glusterfs* hostPath* image* iscsi*
        name nfs* persistentVolumeClaim* photonPersistentDisk* portworxVolume* projected* quobyte* rbd*
        scaleIO* secret* storageos* vsphereVolume*
    """,
    "VolumeDevice": "devicePath name",
    "VolumeMount": """
        bindMountOptions[] mountPath mountPropagation name readOnly:b recursiveReadOnly subPath subPathExpr
    """,
    "WindowsSecurityContextOptions": "gmsaCredentialSpec gmsaCredentialSpecName hostProcess:b runAsUserName",
})  # fmt: skip

KINDS: Mapping[str, str] = MappingProxyType({
    "nodes": "spec:NodeSpec status:NodeStatus",
    "pods": "spec:PodSpec status:PodStatus",
    "events": """
        action count:n eventTime:u firstTimestamp:t involvedObject:ObjectReference lastTimestamp:t message
        reason related:ObjectReference reportingComponent reportingInstance series:EventSeries
        source:EventSource type
    """,
    "namespaces": "spec:NamespaceSpec status:NamespaceStatus",
    "serviceaccounts": """
        automountServiceAccountToken:b imagePullSecrets[LocalObjectReference] secrets[ObjectReference]
    """,
    "configmaps": "binaryData<> data<> immutable:b",
    "secrets": "data<> immutable:b stringData<> type",
    "events.events.k8s.io": """
        action deprecatedCount:n deprecatedFirstTimestamp:t deprecatedLastTimestamp:t
        deprecatedSource:EventSource eventTime:u note reason regarding:ObjectReference related:ObjectReference
        reportingController reportingInstance series:EventSeries type
    """,
    "jobs.batch": "spec:JobSpec status:JobStatus",
    "daemonsets.apps": "spec:DaemonSetSpec status:DaemonSetStatus",
    "replicasets.apps": "spec:ReplicaSetSpec status:ReplicaSetStatus",
    "leases.coordination.k8s.io": "spec:LeaseSpec",
    "poddisruptionbudgets.policy": "spec:PodDisruptionBudgetSpec status:PodDisruptionBudgetStatus",
    "resourceslices.resource.k8s.io": "spec:ResourceSliceSpec",
    "resourceclaims.resource.k8s.io": "spec:ResourceClaimSpec status:ResourceClaimStatus",
    "resourceclaimtemplates.resource.k8s.io": "spec:ResourceClaimTemplateSpec",
    "deviceclasses.resource.k8s.io": "spec:DeviceClassSpec",
    "devicetaintrules.resource.k8s.io": "spec:DeviceTaintRuleSpec status:DeviceTaintRuleStatus",
    "customresourcedefinitions.apiextensions.k8s.io": """
        spec:CustomResourceDefinitionSpec status:CustomResourceDefinitionStatus
    """,
})  # fmt: skip
"""By `plural.group`; each also has apiVersion, kind and metadata."""
