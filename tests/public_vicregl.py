"""VICRegL's full checkpoints as their authors write them, and what they compute, by hand.

Names and order of layers after facebookresearch/VICRegL (convnext.py, main_vicregl.py, utils.py at
98c8834): a dictionary of epoch, model and optimiser; names begin with ``module.`` because the model
was trained in parallel; beside backbone and maps projector lie the expander of whole images and the
classifier of ImageNet-22k.
"""

import torch
from torch.nn import functional

EXPANDED = 8192
CLASSES = 21841


def shapes(depths, widths, projected, *, expanded=EXPANDED, classes=CLASSES):
    """Shape of every tensor of the model by its name in the checkpoint."""
    found = norm_after("backbone.downsample_layers.0", (widths[0], 3, 4, 4), conv=0, norm=1)
    for number in range(1, 4):
        kernel = (widths[number], widths[number - 1], 2, 2)
        found |= norm_after(f"backbone.downsample_layers.{number}", kernel, conv=1, norm=0)
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        for number in range(depth):
            block = f"backbone.stages.{stage}.{number}"
            found |= layer(f"{block}.dwconv", (width, 1, 7, 7)) | layer(f"{block}.norm", (width,))
            found |= layer(f"{block}.pwconv1", (4 * width, width))
            found |= layer(f"{block}.pwconv2", (width, 4 * width))
    found |= layer("backbone.norm", (widths[-1],))
    found |= perceptron("maps_projector", (widths[-1], *projected))
    found |= perceptron("projector", (widths[-1], expanded, expanded, expanded))
    found |= layer("classifier", (classes, widths[-1]))
    return {f"module.{name}": shape for name, shape in found.items()}


def norm_after(name, kernel, *, conv, norm):
    """A convolution and a norm of its inputs or, in the stem, of its outputs."""
    width = kernel[0] if norm > conv else kernel[1]
    return layer(f"{name}.{conv}", kernel) | layer(f"{name}.{norm}", (width,))


def layer(name, shape):
    """Weight and bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def perceptron(name, widths):
    """Three linear layers, the last without bias; a norm and an activation after the others."""
    first, second, third = zip(widths[1:], widths[:-1], strict=True)
    found = layer(f"{name}.0", first) | layer(f"{name}.1", first[:1])
    found |= layer(f"{name}.3", second) | layer(f"{name}.4", second[:1])
    return found | {f"{name}.6.weight": third}


def write(path, depths, widths, projected):
    """Writes a checkpoint of random weights; returns the model's, float32 by name."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes(depths, widths, projected, expanded=6, classes=5).items():
        drawn = torch.randn(shape, generator=generator)
        inputs = drawn[0].numel()
        # Matrices keep the variance of their inputs; norms have gains about one.
        weights[name] = drawn * (2 / inputs) ** 0.5 if len(shape) > 1 else 1 + 0.3 * drawn
    moments = {
        number: {"step": 7, "exp_avg": torch.zeros(1), "exp_avg_sq": torch.zeros(1)}
        for number in range(len(weights))
    }
    groups = [{"lr": 1e-3, "params": list(moments)}, {"params": [], "__MAPS_TOKEN__": ""}]
    optimiser = {"state": moments, "param_groups": groups}
    torch.save({"epoch": 3, "model": weights, "optimizer": optimiser}, path)
    return weights


def backbone_alone(weights):
    """The authors' other kind of file: the backbone's tensors, without prefix or envelope."""
    prefix = "module.backbone."
    return {
        name.removeprefix(prefix): value
        for name, value in weights.items()
        if name.startswith(prefix)
    }


def forward(weights, depths, images):
    """Float64 maps (n, channels, h / 32, w / 32) of images in [0, 1], as MindEye computes them."""
    tensors = {name.removeprefix("module."): value.double() for name, value in weights.items()}

    def linear(x, name):
        return functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def conv(x, name, **options):
        return functional.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], **options)

    def norm(x, name, eps=1e-6):
        """Over the last axis."""
        centred = x - x.mean(dim=-1, keepdim=True)
        spread = (centred.square().mean(dim=-1, keepdim=True) + eps).sqrt()
        return centred / spread * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def last(x):
        return x.permute(0, 2, 3, 1)

    def first(x):
        return x.permute(0, 3, 1, 2)

    mean = torch.tensor([0.485, 0.456, 0.406], dtype=torch.float64)[:, None, None]
    deviation = torch.tensor([0.228, 0.224, 0.225], dtype=torch.float64)[:, None, None]
    x = (images.double() - mean) / deviation
    for stage, depth in enumerate(depths):
        scale = f"backbone.downsample_layers.{stage}"
        if stage == 0:
            x = first(norm(last(conv(x, f"{scale}.0", stride=4)), f"{scale}.1"))
        else:
            x = conv(first(norm(last(x), f"{scale}.0")), f"{scale}.1", stride=2)
        for number in range(depth):
            block = f"backbone.stages.{stage}.{number}"
            y = last(conv(x, f"{block}.dwconv", padding=3, groups=x.shape[1]))
            y = linear(norm(y, f"{block}.norm"), f"{block}.pwconv1")
            y = 0.5 * y * (1 + torch.erf(y / 2**0.5))
            x = x + first(linear(y, f"{block}.pwconv2"))
    y = norm(last(x), "backbone.norm")
    for linear_layer, norm_layer in ((0, 1), (3, 4)):
        y = linear(y, f"maps_projector.{linear_layer}")
        y = norm(y, f"maps_projector.{norm_layer}", eps=1e-5).clamp(min=0)
    return first(linear(y, "maps_projector.6"))
