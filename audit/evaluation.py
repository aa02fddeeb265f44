"""The auditor's measurements of a target alone, on test images: accuracy, and every synaptic operation."""

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from audit.contracts import Images, Monitor, Task
from audit.metrics.accuracy import accuracy, accuracy_over_time
from audit.metrics.energy import energy
from audit.networks.operations import fan_out
from audit.networks.training import predict
from audit.records import Energy, LayerOperations, Measurement
from audit.settings import MeasureSettings
from audit.spiking.activity import Activity
from audit.spiking.network import SpikingNetwork


class TargetReport(BaseModel):
    """What is measured on a target alone."""

    accuracy: Measurement
    accuracy_over_time: tuple[tuple[int, Measurement], ...] = ()
    energy: Energy | None = None


def evaluate_target(
    network: nn.Module,
    task: Task,
    test: Images,
    settings: MeasureSettings,
    seed: int,
    device: torch.device,
    monitor: Monitor,
) -> TargetReport:
    """Accuracy, its curve over T, and every synaptic operation, from one run over the test images."""
    if not isinstance(network, SpikingNetwork):
        logits = predict(network, task.normalise(test.pixels.to(device)), settings.batch_size)
        return TargetReport(accuracy=accuracy("accuracy", logits, test.labels))
    steps = network.time_steps
    points = sorted({max(1, round(steps * k / settings.curve_points)) for k in range(1, settings.curve_points + 1)})
    generator = torch.Generator(device).manual_seed(seed)
    activity = Activity()
    outputs: list[Tensor] = []
    batches = test.pixels.split(settings.batch_size)
    state = {"activity": activity, "outputs": outputs, "generator": generator}
    with torch.no_grad(), monitor.loop("test images", len(batches), **state) as loop:
        for n in loop:
            x = task.normalise(batches[n].to(device))
            outputs.append(network.outputs_over_time(x, points, generator, activity).cpu())
    over_time = torch.cat(outputs, dim=1)
    return TargetReport(
        accuracy=accuracy("accuracy", over_time[-1], test.labels),
        accuracy_over_time=accuracy_over_time(over_time, test.labels, points),
        energy=energy(count_operations(network, task, activity), steps, activity.images),
    )


def count_operations(network: SpikingNetwork, task: Task, activity: Activity) -> list[LayerOperations]:
    """Operations of every weight layer per image, from the events counted in a run.

    An event is a non-zero input; it costs one operation for every output that it reaches. The operation is an
    accumulate where the input is binary or signed binary, a multiply-accumulate where it is graded: after an average
    pooling, and in the first layer under phase coding or direct coding (computed once, as the input does not change).
    """
    layers, spiking = network.layers, activity.spikes
    reach = fan_out(layers, task.image_shape)
    binary = network.encoder.binary
    counted: list[LayerOperations] = []
    names = [name for name, _ in layers.named_children()]
    for index, (name, layer) in enumerate(layers.named_children()):
        if isinstance(layer, nn.AvgPool2d):
            binary = False
        elif name in spiking:
            binary = True
        elif name in reach:
            # Fan-out depends on the place in the image only, so events are counted by place.
            events = activity.inputs[name].double().cpu() / activity.images
            operations = float((events * reach[name][0]).sum())
            steps = 1 if name in activity.once else activity.time_steps
            neuron = next((other for other in names[index + 1 :] if other in spiking or other in reach), None)
            fires = neuron is not None and neuron in spiking
            counted.append(
                LayerOperations(
                    name=name,
                    ann_multiply_accumulates=float(reach[name].sum()),
                    accumulates=operations if binary else 0.0,
                    multiply_accumulates=0.0 if binary else operations,
                    input_density=float(events.sum()) / activity.sizes[name] / steps,
                    spikes_per_neuron=spiking[neuron] / activity.images / activity.sizes[neuron]
                    if fires and neuron
                    else None,
                )
            )
            binary = False  # what a weight layer hands on is graded until a neuron fires on it
    return counted
