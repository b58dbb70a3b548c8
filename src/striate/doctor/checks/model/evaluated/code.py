"""The code of evaluation by weights that were not trained, and what helps."""

CODE = "model.evaluates-untrained"


def averaged(name: str) -> str:
    """How an average of the network follows it; `ema` where the name is none."""
    name = name if name.isidentifier() else "ema"
    return (
        f"update it after `optimizer.step()`: `{name} = torch.optim.swa_utils.AveragedModel(model, "
        "multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))` once, and "
        f"`{name}.update_parameters(model)` in each step"
    )
