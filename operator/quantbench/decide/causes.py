"""What Kubernetes' own messages mean, and what to change: of the scheduler, the kubelet and the container runtime.

Texts are those of Kubernetes 1.27 … 1.34 and containerd. A scheduler's message lists one reason per group of nodes, so
every rule that matches has its say; of an image or a reference only the first one does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_HINT = 512


@dataclass(frozen=True)
class Cause:
    """A text, and what to change; ``{name}`` in the hint stands for a group of the pattern."""

    pattern: re.Pattern[str]
    hint: str


def _cause(pattern: str, hint: str) -> Cause:
    return Cause(re.compile(pattern, re.IGNORECASE), hint)


_UNSCHEDULABLE: Sequence[Cause] = (
    _cause(r"Insufficient (?P<resource>[a-z0-9.-]{1,253}/[\w.-]{1,63})",
           "too few free {resource} on the nodes that fit: wait for some, lower gpus of the target, or check"
           " gpuResourceName"),
    _cause(r"Insufficient (?P<resource>cpu|memory|ephemeral-storage)",
           "lower {resource} in engine.podTemplate.resources.requests"),
    _cause(r"didn't match Pod's node affinity/selector|didn't match node selector",
           "check the target's nodeSelector against the labels of the nodes"),
    _cause(r"untolerated taint \{(?P<taint>(?!node-role|node\.kubernetes)[^:}]{1,317})",
           "add a toleration of {taint} to engine.podTemplate.tolerations"),
    _cause(r"persistentvolumeclaim|persistent volumes? to bind|volume node affinity conflict",
           "check the claims of engine.podTemplate.volumes: they must exist, be bound, and reach the node"),
    _cause(r"didn't match pod (?:anti-)?affinity", "check engine.podTemplate.affinity"),
    _cause(r"node\(s\) were unschedulable", "some nodes are cordoned"),
    _cause(r"Too many pods", "some nodes hold as many pods as they may"),
    _cause(r"scheduling gates?|SchedulingGated", "something holds the pod back, a queue for instance: see its gates"),
)  # fmt: skip
_IMAGE: Sequence[Cause] = (
    _cause(r"InvalidImageName|couldn't parse image|invalid reference format",
           "write the image as registry/name:tag or registry/name@sha256:digest"),
    _cause(r"ErrImageNeverPull|pull policy of Never",
           "load the image onto the node, or set engine.imagePullPolicy to IfNotPresent"),
    _cause(r"toomanyrequests|429 Too Many", "the registry limits pulls: use a mirror, or an account's pull secret"),
    _cause(r"unauthorized|denied|authentication required|401|403 Forbidden",
           "give engine.podTemplate.imagePullSecrets of the registry, and check the image's name"),
    _cause(r"no match for platform|no matching manifest", "the image is not built for the node's CPU architecture"),
    _cause(r"no space left", "the node's disk is full: free it, or use another node"),
    _cause(r"x509", "the node does not trust the registry's certificate"),
    _cause(r"not found|manifest unknown|does not exist", "the registry has no such image or tag: check the name"),
    _cause(r"i/o timeout|no such host|connection refused|deadline exceeded|name resolution|50[0-9]",
           "the node cannot reach the registry, or the registry is down: check both, or use a mirror"),
)  # fmt: skip
_REFERENCE: Sequence[Cause] = (
    _cause(r"couldn't find key (?P<key>\S{1,253}) in (?P<kind>secret|configmap) (?P<name>\S{1,320})",
           "add key {key} to {kind} {name}, or correct engine.podTemplate"),
    _cause(r"(?P<kind>secret|configmap) \"?(?P<name>[\w./-]{1,320})\"? not found",
           "create {kind} {name} in the study's namespace, or correct engine.podTemplate"),
    _cause(r"runAsNonRoot|will run as root", "set engine.podTemplate.runAsUser"),
    _cause(r"cuda>=|driver", "use a node with a newer driver, or an image built for an older CUDA"),
    _cause(r"no runtime for|RuntimeHandler|runtime handler", "check engine.podTemplate.runtimeClassName"),
)  # fmt: skip
_LOSS: Sequence[Cause] = (
    _cause(r"low on resource: (?P<resource>memory|ephemeral-storage)",
           "request what the server needs: {resource} in engine.podTemplate.resources.requests"),
    _cause(r"exceeds the (?:total )?limit|usage of EmptyDir",
           "raise ephemeral-storage in engine.podTemplate.resources, or sizeLimit of the volume"),
    _cause(r"preempt", "set engine.podTemplate.priorityClassName, or run the study when the GPUs are free"),
    _cause(r"OutOf(?P<resource>[a-z][^\s:]{0,253})", "something else took the node's {resource} first: run again"),
    _cause(r"NodeLost|node is not ready|unreachable|DeletionByTaintManager|DeletionByPodGC|NodeController",
           "the node went away: check it, or use another one"),
    _cause(r"node has lost the container",
           "the node was restarted, or its container runtime failed: look at its events, or use another one"),
    _cause(r"Shutdown|Terminated|TerminationByKubelet", "the node was shut down: a node that stays is needed"),
    _cause(r"EvictionByEvictionAPI|Eviction API",
           "something drains nodes: annotate the pods against it, or pause it meanwhile"),
    _cause(r"(?:deleted|replaced) by something else|removed before its end was seen",
           "find out what deletes pods of this namespace"),
)  # fmt: skip


def unschedulable_hint(message: str) -> str:
    """What to change when the scheduler finds no node."""
    found = [_say(cause, match) for cause in _UNSCHEDULABLE if (match := cause.pattern.search(message))]
    return "; ".join(found)[:LONGEST_HINT] or "check the target's nodeSelector, its GPUs, tolerations and volume claims"


def image_hint(reason: str, message: str) -> str:
    """What to change when an image cannot be had."""
    general = "check the image's name, and engine.podTemplate.imagePullSecrets for a private registry"
    return _first(_IMAGE, f"{reason} {message}") or general


def reference_hint(message: str) -> str:
    """What to change when a container cannot be created or started."""
    return _first(_REFERENCE, message) or "see the events of the pod: kubectl describe pod"


def loss_hint(message: str) -> str:
    """What to change when pods were evicted, preempted or lost."""
    return _first(_LOSS, message) or "raise limits.retries, or use nodes that stay"


def _first(causes: Sequence[Cause], message: str) -> str:
    found = ((cause, cause.pattern.search(message)) for cause in causes)
    return next((_say(cause, match) for cause, match in found if match), "")[:LONGEST_HINT]


def _say(cause: Cause, match: re.Match[str]) -> str:
    return cause.hint.format_map(match.groupdict())
