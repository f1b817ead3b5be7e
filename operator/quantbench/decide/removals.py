"""Which of a run's children to delete, by uid: a namesake made meanwhile stays."""

from quantbench.decide.actions import Action, Delete
from quantbench.observe import Children


def stale(children: Children) -> tuple[Action, ...]:
    """Deletions of everything that does not belong to the current attempt."""
    jobs = [Delete("Job", job.name, job.uid) for job in children.stale_jobs if not job.deleting_at]
    pods = [Delete("Pod", pod.name, pod.uid, 1) for pod in children.stale_pods if not pod.deleting_at]
    return (*jobs, *pods)


def remains(children: Children) -> tuple[Action, ...]:
    """Deletions of everything that is left, the server first: it holds the GPU."""
    server, job, load = children.server, children.job, children.load
    pods = [pod for pod in (server, load) if pod and not pod.deleting_at]
    actions: list[Action] = [Delete("Pod", pod.name, pod.uid, 1) for pod in pods]
    if job and not job.deleting_at:
        actions.append(Delete("Job", job.name, job.uid))
    return (*actions, *stale(children))
