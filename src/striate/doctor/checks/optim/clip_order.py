"""`optim.clip-order`: are gradients clipped between backward and step, and unscaled before?"""

from __future__ import annotations

from collections.abc import Iterator

from torch.optim import Optimizer

from striate.doctor.checks.check import Check
from striate.doctor.evidence.evidence import Evidence
from striate.doctor.setup.script_source import Site
from striate.doctor.setup.syntax import argument, called, receiver_of
from striate.records import Finding

_CLIPS = ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm", "clip_grads_with_norm_")


def _run(evidence: Evidence) -> Iterator[Finding]:
    source = evidence.source
    for clip in source.calls(*_CLIPS):
        if clip.often != "batch":
            continue
        scope = source.scope_of(clip.node)
        near = [
            site
            for site in source.calls("step", "unscale_", "backward", "zero_grad", "scale")
            if source.scope_of(site.node) is scope and site.often == "batch"
        ]
        steps = [site for site in near if called(site.node) == "step" and _steps_optimizer(evidence, site)]
        line = clip.node.lineno
        if steps and all(step.node.lineno < line for step in steps):
            yield _finding(
                clip,
                f"`{clip.text}` runs after `{steps[-1].text}`: the optimizer has already stepped with unclipped "
                "gradients",
                f"move `{clip.text}` before `{steps[-1].text}`, after `loss.backward()`",
            )
            return
        backwards = [site for site in near if called(site.node) == "backward"]
        last = max((site.node.lineno for site in backwards), default=0)
        early = [site for site in backwards if site.node.lineno < line]
        if backwards and not early and any(step.node.lineno > last for step in steps):
            yield _finding(
                clip,
                f"`{clip.text}` runs before `{backwards[0].text}`: the gradients of this step do not exist yet",
                f"move `{clip.text}` after `{backwards[0].text}`, before `{steps[-1].text}`",
            )
            return
        scaled = any(called(site.node) == "scale" for site in near)
        unscaled = [site for site in near if called(site.node) == "unscale_" and site.node.lineno < line]
        scaler = next((receiver_of(site.node) for site in near if called(site.node) == "scale"), None)
        active = getattr(source.value(scaler), "is_enabled", lambda: False)() if scaler is not None else False
        if scaled and active and not unscaled:
            yield _finding(
                clip,
                f"`{clip.text}` runs without `unscale_` before it: it clips gradients that are still multiplied by "
                f"{float(source.value(scaler).get_scale()):g}",
                f"call `scaler.unscale_(optimizer)` before `{clip.text}`",
            )
            return


def _steps_optimizer(evidence: Evidence, site: Site) -> bool:
    """Whether a call steps an optimizer, directly or by a scaler: `scaler.step(optimizer)`."""
    source = evidence.source
    nodes = (receiver_of(site.node), argument(site.node, 0, "optimizer"))
    return any(isinstance(source.value(node), Optimizer) for node in nodes)


def _finding(clip: Site, measured: str, remedy: str) -> Finding:
    return CHECK.finding(
        severity="warning",
        where=clip.where,
        measured=measured,
        why="The limit does not apply to the gradients that the optimizer uses: nothing is clipped, or nearly "
        "everything.",
        remedy=remedy,
    )


CHECK = Check(
    codes=("optim.clip-order",),
    threshold="gradients are clipped after the optimizer's step, before backward, or while a GradScaler still scales "
    "them",
    run=_run,
    of_source=True,
    explains="optim.clip-too-small optim.lr-too-high optim.lr-too-low loss.not-finite",
)
