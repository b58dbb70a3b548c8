"""The code of the finding `model.evaluates-untrained`, and its remedy for averages."""

CODE = "model.evaluates-untrained"


def average_remedy(name: str) -> str:
    """How to update an average of the network in a variable of this name, or `ema` where it is no identifier."""
    name = name if name.isidentifier() else "ema"
    return (
        f"update it after `optimizer.step()`: `{name} = torch.optim.swa_utils.AveragedModel(model, "
        "multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))` once, and "
        f"`{name}.update_parameters(model)` in each step"
    )
